//! The answers to errors of the engine.

use crate::engine::contract::EngineError;
use axum::http::StatusCode;
use kit::http::error_answer::ErrorAnswer;

/// Names the flag that raises the limit, if a flag sets it.
fn way_out(refusal: &EngineError) -> &'static str {
    match refusal {
        EngineError::NoMemory { .. } => " (--max-memory)",
        EngineError::TooManyQueues(_) => " (--max-queues)",
        EngineError::TooMuchOfQueues { .. } => {
            " (raise --segment-bytes, or use fewer queues or shorter names)"
        }
        _ => "",
    }
}

impl From<EngineError> for ErrorAnswer {
    fn from(refusal: EngineError) -> ErrorAnswer {
        let (status, error) = match &refusal {
            EngineError::NoSuchQueue(_) => (StatusCode::NOT_FOUND, "no_such_queue"),
            EngineError::NoSuchItem(..) => (StatusCode::NOT_FOUND, "no_such_item"),
            EngineError::Sealed(_) => (StatusCode::CONFLICT, "sealed"),
            EngineError::Full(_) | EngineError::TooManyQueues(_) | EngineError::TooMuchOfQueues { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "full")
            }
            EngineError::NoSpace(_) | EngineError::NoMemory { .. } => {
                (StatusCode::INSUFFICIENT_STORAGE, "no_space")
            }
            EngineError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            EngineError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        ErrorAnswer::new(status, error, format!("{refusal}{}", way_out(&refusal)))
    }
}
