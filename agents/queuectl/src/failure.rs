//! Why a request was not answered as hoped, and whether asking again can help.

use kit::client::NoConnection;
use kit::exit::{Exit, Fatal};
use std::io;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    #[error("an answer that is none of queued's: {0}")]
    Garbled(serde_json::Error),
    #[error("{message} ({status} {error})")]
    Refused { status: u16, error: String, message: String },
    #[error("cannot read the token file {0}: {1}")]
    Token(String, io::Error),
    #[error("the wait was ended")]
    Hurried,
}

impl Failure {
    /// Whether the same request may succeed later: the server or the way to it is the trouble, not the request.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Failure::Refused { status, error, .. } => match status {
                408 | 429 | 500.. => true,
                // Whoever answers in queued's place until it is there: an ingress, a proxy, another release.
                404 | 405 => error.is_empty(),
                _ => false,
            },
            Failure::TooLong(_) => false,
            _ => true,
        }
    }

    /// The word for programs in queued's answer.
    pub(crate) fn word(&self) -> &str {
        match self {
            Failure::Refused { error, .. } => error,
            _ => "",
        }
    }

    /// The end of a command that could not do what it was asked for.
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
    fn what_the_server_may_get_over_is_asked_again_and_what_the_request_did_wrong_is_not() {
        let refused = |status, error: &str| {
            let (error, message) = (error.to_owned(), String::new());
            Failure::Refused { status, error, message }
        };
        for (status, error) in
            [(503, "draining"), (429, "full"), (507, "no_space"), (502, ""), (404, ""), (408, "timeout")]
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
}
