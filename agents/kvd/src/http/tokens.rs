//! Bearer tokens from a file: each has rights, and may be limited to some keys.

use axum::http::StatusCode;
use kit::http::error_answer::ErrorAnswer;
use kit::http::tokens::{self, TokenFile, TokenList};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRight {
    Read,
    Write,
    /// Reads backups, which contain all keys.
    Admin,
}

/// The valid tokens. `None` if the server asks for none.
pub type KeyTokens = TokenList<KeyGrant>;

/// The file of tokens: one `TOKEN RIGHT[,RIGHT…] [PREFIX[,PREFIX…]]` a line.
pub const FILE: TokenFile<KeyGrant> = TokenFile { grant, comments_anywhere: false, repeats: false };

/// The rights of a token, and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGrant {
    read: bool,
    write: bool,
    admin: bool,
    /// The token reaches keys that begin with one of these prefixes.
    prefixes: Arc<[Box<str>]>,
}

impl KeyGrant {
    fn has(&self, right: KeyRight) -> bool {
        match right {
            KeyRight::Read => self.read || self.admin,
            KeyRight::Write => self.write || self.admin,
            KeyRight::Admin => self.admin,
        }
    }
}

/// The keys that a request may use: those with one of these prefixes, or all keys.
#[derive(Clone, Debug)]
pub struct KeyScope(Option<Arc<[Box<str>]>>);

impl KeyScope {
    /// The scope of requests to a server that asks for no token.
    pub fn all() -> KeyScope {
        KeyScope(None)
    }

    /// Fails unless the request may use this key, or all keys with this prefix.
    pub fn check(&self, key_or_prefix: &str) -> Result<(), ErrorAnswer> {
        if self.reaches(key_or_prefix) {
            return Ok(());
        }
        let message = format!("this token is not for {key_or_prefix:?}");
        Err(ErrorAnswer::new(StatusCode::FORBIDDEN, "forbidden", message))
    }

    pub fn reaches(&self, key_or_prefix: &str) -> bool {
        let Some(prefixes) = &self.0 else { return true };
        prefixes.iter().any(|prefix| key_or_prefix.starts_with(&**prefix))
    }
}

fn grant(words: &[&str]) -> Result<KeyGrant, &'static str> {
    let (rights, prefixes): (_, Vec<Box<str>>) = match words {
        [rights] => (rights, vec!["".into()]),
        [rights, prefixes] => (rights, prefixes.split(',').map(Box::from).collect()),
        _ => return Err("expected TOKEN RIGHT[,RIGHT…] [PREFIX[,PREFIX…]]"),
    };
    if prefixes.len() > 1 && prefixes.iter().any(|prefix| prefix.is_empty()) {
        return Err("an empty prefix among others would be for all keys");
    }
    let mut grant = KeyGrant { read: false, write: false, admin: false, prefixes: prefixes.into() };
    for right in rights.split(',') {
        match right {
            "read" => grant.read = true,
            "write" => grant.write = true,
            "admin" => grant.admin = true,
            _ => return Err("the rights are read, write and admin"),
        }
    }
    if grant.admin && words.len() > 1 {
        return Err("the right admin is for all keys");
    }
    Ok(grant)
}

/// Checks that the `Authorization` header has a token with this right. Returns the keys that it reaches.
pub fn permit(
    tokens: &KeyTokens,
    authorization: Option<&str>,
    right: KeyRight,
) -> Result<KeyScope, ErrorAnswer> {
    match tokens::find(tokens, authorization)? {
        None => Ok(KeyScope::all()),
        Some(grant) if grant.has(right) => Ok(KeyScope(Some(grant.prefixes.clone()))),
        Some(_) => {
            Err(ErrorAnswer::new(StatusCode::FORBIDDEN, "forbidden", "this token lacks the right for that"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(Box<str>, KeyGrant)>, String> {
        FILE.parse(text)
    }

    #[test]
    fn token_has_the_rights_and_prefixes_of_its_line() {
        let text = "# who\nreader read\nshop write shop/,cart/\nboth read,write a\nboss admin\n";
        let tokens = Some(Arc::new(parse(text).unwrap()));
        let status = |token: &str, right, key: &str| {
            let scope = permit(&tokens, Some(token), right).and_then(|scope| scope.check(key));
            scope.map_err(|error| error.status.as_u16())
        };
        assert_eq!(status("Bearer reader", KeyRight::Read, "any"), Ok(()));
        assert_eq!(status("Bearer reader", KeyRight::Write, "any"), Err(403));
        assert_eq!(status("bearer shop", KeyRight::Write, "shop/1"), Ok(()));
        assert_eq!(status("Bearer shop", KeyRight::Write, "cart/"), Ok(()));
        assert_eq!(status("Bearer shop", KeyRight::Write, "shop"), Err(403));
        assert_eq!(status("Bearer shop", KeyRight::Write, ""), Err(403));
        assert_eq!(status("Bearer shop", KeyRight::Read, "shop/1"), Err(403));
        assert_eq!(status("Bearer both", KeyRight::Read, "ab"), Ok(()));
        assert_eq!(status("Bearer boss", KeyRight::Write, "any"), Ok(()));
        assert_eq!(status("Bearer boss", KeyRight::Admin, ""), Ok(()));
        assert_eq!(status("Bearer both", KeyRight::Admin, ""), Err(403));
        for nobody in ["Bearer nobody", "Bearer ", "Basic boss", "boss", "Bearer bos", "Bearer bosss"] {
            assert_eq!(status(nobody, KeyRight::Read, "a"), Err(401), "{nobody}");
        }
        assert_eq!(permit(&tokens, None, KeyRight::Read).unwrap_err().status, 401);
        permit(&None, None, KeyRight::Admin).unwrap().check("any").unwrap();
    }

    #[test]
    fn bad_file_is_named_by_line_without_its_secret() {
        for (text, line) in [
            ("a read\nsecret", "line 2"),
            ("secret fly", "line 1"),
            ("secret read a/\nsecret write b/", "line 2"),
            ("secret read x y", "line 1"),
            ("secret read a,,b", "line 1"),
            ("secret admin a/", "line 1"),
            ("\u{feff}secret read", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(line) && !error.contains("secret"), "{error}");
        }
        assert!(parse("# nothing\n").is_err());
    }
}
