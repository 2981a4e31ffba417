//! Errors of a request, which also tell if a retry can help.

use kit::caller::CallError;
use kit::exit::{Exit, Fatal};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("cannot write the request as JSON: {0}")]
    Unwritable(serde_json::Error),
    #[error("the wait was interrupted")]
    WaitEnded,
}

impl Failure {
    /// True if the same request may succeed later: the fault is with the server or the way to it.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Failure::Call(error) => error.may_pass(),
            Failure::Unwritable(_) => false,
            Failure::WaitEnded => true,
        }
    }

    /// The status of a refusal.
    fn status(&self) -> Option<u16> {
        match self {
            Failure::Call(CallError::Refused { status, .. }) => Some(*status),
            _ => None,
        }
    }

    /// True if a smaller request may be accepted. A proxy's own limit counts too.
    pub(crate) fn is_too_large(&self) -> bool {
        self.status() == Some(413)
    }

    /// True if another item might be accepted instead of this one.
    pub(crate) fn is_about_the_item(&self) -> bool {
        matches!(self.status(), Some(400 | 413 | 422))
    }

    /// The `error` field of queued's answer, which programs may compare.
    pub(crate) fn word(&self) -> &str {
        match self {
            Failure::Call(error) => error.word(),
            _ => "",
        }
    }

    /// Ends the process with this failure as the cause.
    pub(crate) fn fatal(self, what: impl Into<String>) -> Fatal {
        match self {
            Failure::Call(error) => error.fatal(what),
            Failure::Unwritable(_) => Fatal::new(Exit::Failure, what).because(self),
            Failure::WaitEnded => Fatal::new(Exit::TryAgain, what).because(self),
        }
    }
}
