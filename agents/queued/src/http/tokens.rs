//! Bearer tokens from a file, and the rights of each token.

use axum::http::StatusCode;
use kit::exit::{Exit, Fatal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use kit::http::error_answer::ErrorAnswer;

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
pub type Tokens = Option<Arc<Vec<TokenGrant>>>;

/// A token, and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    token: Box<str>,
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

/// Parses one `TOKEN RIGHT[,RIGHT…]` a line. Refuses a file without tokens, which would lock everybody out.
pub fn parse(text: &str) -> Result<Vec<TokenGrant>, String> {
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        // Never shows the line itself: it holds a secret.
        let wrong = |what: &str| Err(format!("line {}: {what}", number + 1));
        let mut words = line.split_whitespace();
        let (Some(token), Some(rights), None) = (words.next(), words.next(), words.next()) else {
            return wrong("expected TOKEN RIGHT[,RIGHT…]");
        };
        // No header can carry such a token (one after a byte order mark, for example), so it would never
        // match.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("a token is visible ASCII");
        }
        let mut grant = TokenGrant { token: token.into(), push: false, work: false, admin: false };
        for right in rights.split(',') {
            match right {
                "push" => grant.push = true,
                "work" => grant.work = true,
                "admin" => grant.admin = true,
                _ => return wrong("the rights are push, work and admin"),
            }
        }
        entries.push(grant);
    }
    if entries.is_empty() { Err("it holds no token".to_owned()) } else { Ok(entries) }
}

fn load(path: &Path) -> Result<Tokens, Fatal> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Fatal::new(Exit::Config, format!("cannot read the tokens in {}", path.display())).because(e)
    })?;
    let entries = parse(&text).map_err(|e| Fatal::new(Exit::Config, format!("{}: {e}", path.display())))?;
    Ok(Some(Arc::new(entries)))
}

/// Watches the file; the receiver always holds the current tokens.
pub fn follow(path: Option<PathBuf>, drain: CancellationToken) -> Result<watch::Receiver<Tokens>, Fatal> {
    let Some(path) = path else { return Ok(watch::channel(None).1) };
    kit::settings::watch::follow("tokens", vec![path.clone()], drain, move || load(&path))
}

/// Checks that the `Authorization` header carries a token with this right. The time taken reveals only the
/// number and the lengths of the tokens.
pub fn permit(tokens: &Tokens, authorization: Option<&str>, right: Right) -> Result<(), ErrorAnswer> {
    let Some(entries) = tokens else { return Ok(()) };
    let given = authorization.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let given = given.unwrap_or_default().as_bytes();
    let mut found = None;
    for grant in entries.iter() {
        if bool::from(grant.token.as_bytes().ct_eq(given)) {
            found = Some(grant);
        }
    }
    match found {
        None => {
            let message = "a valid token is needed: Authorization: Bearer TOKEN";
            Err(ErrorAnswer::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
        }
        Some(grant) if grant.has(right) => Ok(()),
        Some(_) => Err(ErrorAnswer::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this token lacks the right for this request",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
