//! Bearer tokens from a file, and the rights of each token.

use axum::http::StatusCode;
use kit::http::error_answer::ErrorAnswer;
use kit::http::tokens::{self, TokenFile, TokenList};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Any valid token has this right.
    Read,
    Push,
    Work,
    Admin,
    /// A producer may create the queue that it pushes into.
    PushOrAdmin,
}

/// The valid tokens; `None` if tokens are off.
pub type Tokens = TokenList<TokenGrant>;

/// The file of tokens: one `TOKEN RIGHT[,RIGHT…]` a line.
pub const FILE: TokenFile<TokenGrant> = TokenFile { grant, comments_anywhere: true, repeats: true };

/// The rights of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenGrant {
    push: bool,
    work: bool,
    admin: bool,
}

impl TokenGrant {
    fn has(&self, right: Right) -> bool {
        match right {
            Right::Read => true,
            Right::Push | Right::PushOrAdmin => self.push || self.admin,
            Right::Work => self.work || self.admin,
            Right::Admin => self.admin,
        }
    }
}

fn grant(words: &[&str]) -> Result<TokenGrant, &'static str> {
    let [rights] = words else { return Err("expected TOKEN RIGHT[,RIGHT…]") };
    let mut grant = TokenGrant::default();
    for right in rights.split(',') {
        match right {
            "push" => grant.push = true,
            "work" => grant.work = true,
            "admin" => grant.admin = true,
            _ => return Err("the rights are push, work and admin"),
        }
    }
    Ok(grant)
}

/// Checks that the `Authorization` header carries a token with this right.
pub fn permit(tokens: &Tokens, authorization: Option<&str>, right: Right) -> Result<(), ErrorAnswer> {
    match tokens::find(tokens, authorization)? {
        Some(grant) if !grant.has(right) => Err(ErrorAnswer::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this token lacks the right for this request",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn parse(text: &str) -> Result<Vec<(Box<str>, TokenGrant)>, String> {
        FILE.parse(text)
    }

    #[test]
    fn a_token_may_do_what_its_line_says() {
        let entries =
            parse("# who\nproducer push\nworker work # the Job\nboss admin\nboth push,work\n").unwrap();
        let tokens = Some(Arc::new(entries));
        let status = |token: &str, right| permit(&tokens, Some(token), right).map_err(|p| p.status.as_u16());
        assert_eq!(status("Bearer producer", Right::Push), Ok(()));
        assert_eq!(status("bearer producer", Right::PushOrAdmin), Ok(()));
        assert_eq!(status("Bearer producer", Right::Work), Err(403));
        assert_eq!(status("Bearer both", Right::Work), Ok(()));
        assert_eq!(status("Bearer both", Right::Admin), Err(403));
        assert_eq!(status("Bearer worker", Right::Read), Ok(()));
        assert_eq!(status("Bearer boss", Right::Push), Ok(()));
        for nobody in ["Bearer nobody", "Bearer ", "Basic boss", "boss", "Bearer bos", "Bearer bosss"] {
            assert_eq!(status(nobody, Right::Read), Err(401), "{nobody}");
        }
        assert_eq!(permit(&tokens, None, Right::Read).unwrap_err().status, 401);
        permit(&None, None, Right::Admin).unwrap();
    }

    #[test]
    fn a_bad_file_is_named_by_line_without_its_secret() {
        for (text, line) in [
            ("a push\nsecret", "line 2"),
            ("secret fly", "line 1"),
            ("secret push x", "line 1"),
            ("\u{feff}secret push", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(line) && !error.contains("secret"), "{error}");
        }
        assert!(parse("# nothing\n").is_err());
    }
}
