//! Bearer tokens from a file: each has rights, and may be limited to some keys.

use axum::http::StatusCode;
use kit::exit::{Exit, Fatal};
use kit::http::error_answer::ErrorAnswer;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRight {
    Read,
    Write,
    /// Reads backups, which contain all keys.
    Admin,
}

/// The valid tokens. `None` if the server asks for none.
pub type KeyTokens = Option<Arc<Vec<KeyToken>>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyToken {
    token: Box<str>,
    read: bool,
    write: bool,
    admin: bool,
    /// The token reaches keys that begin with one of these prefixes.
    prefixes: Vec<Box<str>>,
}

impl KeyToken {
    fn has(&self, right: KeyRight) -> bool {
        match right {
            KeyRight::Read => self.read || self.admin,
            KeyRight::Write => self.write || self.admin,
            KeyRight::Admin => self.admin,
        }
    }
}

/// The keys that a request may use: all keys, or those that one token reaches.
#[derive(Clone, Debug)]
pub struct Permit(Option<KeyToken>);

impl Permit {
    /// Fails unless the request may use this key, or all keys with this prefix.
    pub fn key(&self, key_or_prefix: &str) -> Result<(), ErrorAnswer> {
        if self.reaches(key_or_prefix) {
            return Ok(());
        }
        let message = format!("this token is not for {key_or_prefix:?}");
        Err(ErrorAnswer::new(StatusCode::FORBIDDEN, "forbidden", message))
    }

    pub fn reaches(&self, key_or_prefix: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|token| token.prefixes.iter().any(|prefix| key_or_prefix.starts_with(&**prefix)))
    }
}

/// Parses one `TOKEN RIGHT[,RIGHT…] [PREFIX[,PREFIX…]]` per line. Rejects a file without tokens, because it
/// would lock out everybody.
pub fn parse(text: &str) -> Result<Vec<KeyToken>, String> {
    let mut tokens = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The message must not contain the line, which holds a secret.
        let wrong = |what: &str| Err(format!("line {}: {what}", number + 1));
        let words: Vec<&str> = line.split_whitespace().collect();
        let (token, rights, prefixes) = match words[..] {
            [token, rights] => (token, rights, vec!["".into()]),
            [token, rights, prefixes] => (token, rights, prefixes.split(',').map(Box::from).collect()),
            _ => return wrong("expected TOKEN RIGHT[,RIGHT…] [PREFIX[,PREFIX…]]"),
        };
        // No header can carry such a token, so it would never match. An example is a token after a byte order
        // mark.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("a token is visible ASCII");
        }
        // Of two lines, only one could count.
        if tokens.iter().any(|other: &KeyToken| *other.token == *token) {
            return wrong("this token has a line already");
        }
        let mut parsed = KeyToken { token: token.into(), read: false, write: false, admin: false, prefixes };
        for right in rights.split(',') {
            match right {
                "read" => parsed.read = true,
                "write" => parsed.write = true,
                "admin" => parsed.admin = true,
                _ => return wrong("the rights are read, write and admin"),
            }
        }
        if parsed.prefixes.len() > 1 && parsed.prefixes.iter().any(|prefix| prefix.is_empty()) {
            return wrong("an empty prefix among others would be for all keys");
        }
        if parsed.admin && words.len() > 2 {
            return wrong("the right admin is for all keys");
        }
        tokens.push(parsed);
    }
    if tokens.is_empty() { Err("it holds no token".to_owned()) } else { Ok(tokens) }
}

fn load(path: &Path) -> Result<KeyTokens, Fatal> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Fatal::new(Exit::Config, format!("cannot read the tokens in {}", path.display())).because(e)
    })?;
    let tokens = parse(&text).map_err(|e| Fatal::new(Exit::Config, format!("{}: {e}", path.display())))?;
    Ok(Some(Arc::new(tokens)))
}

/// Watches the file. The receiver always holds the current tokens.
pub fn follow(path: Option<PathBuf>, drain: CancellationToken) -> Result<watch::Receiver<KeyTokens>, Fatal> {
    let Some(path) = path else { return Ok(watch::channel(None).1) };
    kit::settings::watch::follow("tokens", vec![path.clone()], drain, move || load(&path))
}

/// Checks that the `Authorization` header has a token with this right. The time taken reveals only the number
/// and the lengths of the tokens.
pub fn permit(
    tokens: &KeyTokens,
    authorization: Option<&str>,
    right: KeyRight,
) -> Result<Permit, ErrorAnswer> {
    let Some(tokens) = tokens else { return Ok(Permit(None)) };
    let given = authorization.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let given = given.unwrap_or_default().as_bytes();
    let mut found = None;
    for token in tokens.iter() {
        if bool::from(token.token.as_bytes().ct_eq(given)) {
            found = Some(token);
        }
    }
    match found {
        None => {
            let message = "a valid token is needed: Authorization: Bearer TOKEN";
            Err(ErrorAnswer::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
        }
        Some(token) if token.has(right) => Ok(Permit(Some(token.clone()))),
        Some(_) => {
            Err(ErrorAnswer::new(StatusCode::FORBIDDEN, "forbidden", "this token lacks the right for that"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_the_rights_and_prefixes_of_its_line() {
        let text = "# who\nreader read\nshop write shop/,cart/\nboth read,write a\nboss admin\n";
        let tokens = Some(Arc::new(parse(text).unwrap()));
        let status = |token: &str, right, key: &str| {
            let permit = permit(&tokens, Some(token), right).and_then(|permit| permit.key(key));
            permit.map_err(|error| error.status.as_u16())
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
        permit(&None, None, KeyRight::Admin).unwrap().key("any").unwrap();
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
