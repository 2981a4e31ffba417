//! Bearer tokens from a file: one a line, each with what it allows.

use super::error_answer::ErrorAnswer;
use crate::exit::{Exit, Fatal};
use axum::http::StatusCode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The valid tokens, each with its grant. `None` if the server asks for none.
pub type TokenList<G> = Option<Arc<Vec<(Box<str>, G)>>>;

/// The form of a file of tokens.
#[derive(Debug)]
pub struct TokenFile<G> {
    /// Reads the words after the token. An error must not have these words, which may be a secret.
    pub grant: fn(&[&str]) -> Result<G, &'static str>,
    /// True if a `#` begins a comment in any place. Otherwise it must be the first character of a line.
    pub comments_anywhere: bool,
    /// True if a token may have several lines, of which the last one counts.
    pub repeats: bool,
}

impl<G: Send + Sync + 'static> TokenFile<G> {
    /// Parses the lines. Rejects a file without tokens, because it would lock out everybody.
    pub fn parse(&self, text: &str) -> Result<Vec<(Box<str>, G)>, String> {
        let mut tokens: Vec<(Box<str>, G)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = match self.comments_anywhere {
                true => line.split('#').next().unwrap_or_default().trim(),
                false => line.trim(),
            };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The message must not contain the line, which holds a secret.
            let wrong = |what: &str| format!("line {}: {what}", number + 1);
            let words: Vec<&str> = line.split_whitespace().collect();
            let (token, rest) = words.split_first().ok_or_else(|| wrong("it has no token"))?;
            // No header can carry such a token, so it would never match. An example is a token after a byte
            // order mark.
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("a token is visible ASCII"));
            }
            if !self.repeats && tokens.iter().any(|(other, _)| **other == **token) {
                return Err(wrong("this token has a line already"));
            }
            tokens.push(((*token).into(), (self.grant)(rest).map_err(wrong)?));
        }
        if tokens.is_empty() { Err("it holds no token".to_owned()) } else { Ok(tokens) }
    }

    fn load(&self, path: &Path) -> Result<TokenList<G>, Fatal> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Fatal::new(Exit::Config, format!("cannot read the tokens in {}", path.display())).because(e)
        })?;
        let tokens = self.parse(&text);
        let tokens = tokens.map_err(|e| Fatal::new(Exit::Config, format!("{}: {e}", path.display())))?;
        Ok(Some(Arc::new(tokens)))
    }

    /// Watches a file. The receiver always holds the current tokens.
    pub fn follow(
        self,
        path: Option<PathBuf>,
        drain: CancellationToken,
    ) -> Result<watch::Receiver<TokenList<G>>, Fatal> {
        let Some(path) = path else { return Ok(watch::channel(None).1) };
        crate::settings::watch::follow("tokens", vec![path.clone()], drain, move || self.load(&path))
    }
}

/// Returns the token in an `Authorization` header.
pub fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares two texts in constant time. The duration reveals only their lengths.
pub fn same(given: &str, known: &str) -> bool {
    given.as_bytes().ct_eq(known.as_bytes()).into()
}

/// Returns the grant of the token in an `Authorization` header; `None` if the server asks for no token. The
/// time taken reveals only the number and the lengths of the tokens.
pub fn find<'a, G>(
    tokens: &'a TokenList<G>,
    authorization: Option<&str>,
) -> Result<Option<&'a G>, ErrorAnswer> {
    let Some(tokens) = tokens else { return Ok(None) };
    let given = bearer(authorization).unwrap_or_default();
    let mut found = None;
    for (token, grant) in tokens.iter() {
        if same(given, token) {
            found = Some(grant);
        }
    }
    found.map(Some).ok_or_else(|| {
        let message = "a valid token is needed: Authorization: Bearer TOKEN";
        ErrorAnswer::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    })
}
