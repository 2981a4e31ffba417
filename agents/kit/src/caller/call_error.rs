//! Errors of a request, which also tell if a retry can help.

use super::CallNames;
use crate::client::ConnectError;
use crate::exit::{Exit, Fatal};
use crate::terminal;
use axum::http::StatusCode;
use serde::Deserialize;
use std::time::Duration;

/// The length of the part of a foreign answer that messages show.
const EXCERPT_CHARS_MAX: usize = 60;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    /// Another program listens there: a web server, a proxy without a route, another daemon.
    #[error("this server is not {}: it answered with {answer}; check --server and ${}", .names.server, .names.variable)]
    Foreign {
        names: CallNames,
        answer: String,
        /// True if it has answered as the server before, so that the error may pass.
        was_server: bool,
    },
    #[error("{}", refusal(*.status, .error, .message))]
    Refused { status: u16, error: String, message: String },
    #[error("cannot read the token file {0}: {1}")]
    Token(String, std::io::Error),
}

/// Formats a refusal. One by the server has a message and a word; one by a proxy in front of it may have
/// neither.
fn refusal(status: u16, error: &str, message: &str) -> String {
    let message = if message.is_empty() { "the server refused" } else { message };
    let space = if error.is_empty() { "" } else { " " };
    format!("{message} ({status}{space}{error})")
}

impl CallError {
    /// True if the same request may succeed later: the fault is with the server or the way to it.
    pub fn may_pass(&self) -> bool {
        match self {
            CallError::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            CallError::Foreign { was_server, .. } => *was_server,
            CallError::TooLong(_) => false,
            _ => true,
        }
    }

    /// Reads the refusal in an answer with a status of 400 or above; `None` if neither the server nor a proxy in
    /// front of it gives such an answer.
    pub fn refused(status: StatusCode, body: &[u8]) -> Option<CallError> {
        let ErrorBody { error, message } = serde_json::from_slice(body).unwrap_or_default();
        let is_known = !error.is_empty() || said_by_proxies(status);
        is_known.then(|| CallError::Refused { status: status.as_u16(), error, message })
    }

    /// The `error` field of the answer, which programs may compare.
    pub fn word(&self) -> &str {
        match self {
            CallError::Refused { error, .. } => error,
            _ => "",
        }
    }

    /// Returns the error that ends the process, with this one as its cause.
    pub fn fatal(self, what: impl Into<String>) -> Fatal {
        let exit = match &self {
            CallError::Refused { status: 401 | 403, .. } => Exit::Config,
            error if error.may_pass() => Exit::TryAgain,
            _ => Exit::Failure,
        };
        Fatal::new(exit, what).because(self)
    }
}

#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
}

/// Describes an answer that the server never gives.
pub fn describe(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS_MAX)]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = terminal::excerpt(&text, EXCERPT_CHARS_MAX);
    let said = if text.is_empty() { String::new() } else { format!(" and \"{text}\"") };
    format!("{}{said}", status.as_u16())
}

/// True for a status that a proxy in front of the server may send itself: the server is away, the token is
/// refused, or the proxy has reached a limit.
fn said_by_proxies(status: StatusCode) -> bool {
    match status.as_u16() {
        401 | 403 | 408 | 413 | 429 => true,
        // A web server that does not know the request at all answers with these two.
        501 | 505 => false,
        500.. => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_the_server_are_retried() {
        let refused = |status, error: &str| {
            let (error, message) = (error.to_owned(), String::new());
            CallError::Refused { status, error, message }
        };
        for (status, error) in
            [(503, "draining"), (429, "full"), (507, "no_space"), (502, ""), (408, "timeout")]
        {
            let error = refused(status, error);
            assert!(error.may_pass(), "{error}");
            assert_eq!(error.fatal("x").exit(), Exit::TryAgain);
        }
        for (status, error) in [(404, "no_such_queue"), (409, "sealed"), (413, "too_large"), (422, "invalid")]
        {
            let error = refused(status, error);
            assert!(!error.may_pass(), "{error}");
            assert_eq!(error.fatal("x").exit(), Exit::Failure);
        }
        assert_eq!(refused(401, "unauthorized").fatal("x").exit(), Exit::Config);
        assert!(CallError::Timeout(Duration::ZERO).may_pass());
    }

    #[test]
    fn a_foreign_server_is_an_error_unless_it_was_the_server_before() {
        let names = CallNames { user_agent: "x/1", server: "x", variable: "X_URL" };
        let error = |was_server| CallError::Foreign { names, answer: "404".to_owned(), was_server };
        assert_eq!(error(false).fatal("x").exit(), Exit::Failure);
        assert_eq!(error(true).fatal("x").exit(), Exit::TryAgain);
    }

    #[test]
    fn a_refusal_without_a_word_has_no_gap() {
        assert_eq!(refusal(504, "", ""), "the server refused (504)");
        assert_eq!(refusal(429, "full", "too many"), "too many (429 full)");
    }
}
