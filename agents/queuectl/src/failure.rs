//! Errors of a request, which also tell if a retry can help.

use kit::client::ConnectError;
use kit::exit::{Exit, Fatal};
use std::io;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    /// Another program listens there: a web server, a proxy without a route, another daemon.
    #[error("this server is not queued: it answered with {answer}; check --server and $QUEUE_URL")]
    NotQueued {
        answer: String,
        /// True if it has answered as queued before, so that the error may pass.
        was_queued: bool,
    },
    #[error("cannot write the request as JSON: {0}")]
    Unwritable(serde_json::Error),
    #[error("{}", refusal(*.status, .error, .message))]
    Refused { status: u16, error: String, message: String },
    #[error("cannot read the token file {0}: {1}")]
    Token(String, io::Error),
    #[error("the wait was interrupted")]
    WaitEnded,
}

/// Formats a refusal. One by queued has a message and a word; one by a proxy in front of it may have neither.
fn refusal(status: u16, error: &str, message: &str) -> String {
    let message = if message.is_empty() { "the server refused" } else { message };
    let space = if error.is_empty() { "" } else { " " };
    format!("{message} ({status}{space}{error})")
}

impl Failure {
    /// True if the same request may succeed later: the fault is with the server or the way to it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Failure::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Failure::NotQueued { was_queued, .. } => *was_queued,
            Failure::TooLong(_) | Failure::Unwritable(_) => false,
            _ => true,
        }
    }

    /// True if a smaller request may be accepted. A proxy's own limit counts too.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Failure::Refused { status: 413, .. })
    }

    /// True if another item might be accepted instead of this one.
    pub(crate) fn is_about_the_item(&self) -> bool {
        matches!(self, Failure::Refused { status: 400 | 413 | 422, .. })
    }

    /// The `error` field of queued's answer, which programs may compare.
    pub(crate) fn word(&self) -> &str {
        match self {
            Failure::Refused { error, .. } => error,
            _ => "",
        }
    }

    /// Ends the process with this failure as the cause.
    pub(crate) fn fatal(self, what: impl Into<String>) -> Fatal {
        let exit = match &self {
            Failure::Refused { status: 401 | 403, .. } => Exit::Config,
            failure if failure.may_pass() => Exit::TryAgain,
            _ => Exit::Failure,
        };
        Fatal::new(exit, what).because(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_the_server_are_retried() {
        let refused = |status, error: &str| {
            let (error, message) = (error.to_owned(), String::new());
            Failure::Refused { status, error, message }
        };
        for (status, error) in
            [(503, "draining"), (429, "full"), (507, "no_space"), (502, ""), (408, "timeout")]
        {
            let failure = refused(status, error);
            assert!(failure.may_pass(), "{failure}");
            assert_eq!(failure.fatal("x").exit(), Exit::TryAgain);
        }
        for (status, error) in [(404, "no_such_queue"), (409, "sealed"), (413, "too_large"), (422, "invalid")]
        {
            let failure = refused(status, error);
            assert!(!failure.may_pass(), "{failure}");
            assert_eq!(failure.fatal("x").exit(), Exit::Failure);
        }
        assert_eq!(refused(401, "unauthorized").fatal("x").exit(), Exit::Config);
        assert!(Failure::Timeout(Duration::ZERO).may_pass());
    }

    #[test]
    fn a_foreign_server_is_an_error_unless_it_was_queued_before() {
        let failure = |was_queued| Failure::NotQueued { answer: "404".to_owned(), was_queued };
        assert_eq!(failure(false).fatal("x").exit(), Exit::Failure);
        assert_eq!(failure(true).fatal("x").exit(), Exit::TryAgain);
    }

    #[test]
    fn a_refusal_without_a_word_has_no_gap() {
        assert_eq!(refusal(504, "", ""), "the server refused (504)");
        assert_eq!(refusal(429, "full", "too many"), "too many (429 full)");
    }
}
