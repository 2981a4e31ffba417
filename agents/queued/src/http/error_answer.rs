//! The error answers of the protocol: a status, a code for programs and a message for people.

use super::json;
use crate::engine::contract::EngineError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error answer: status 400 and above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    pub status: StatusCode,
    pub error: &'static str,
    pub message: String,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'static str,
    message: &'a str,
}

impl ErrorAnswer {
    pub fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> ErrorAnswer {
        ErrorAnswer { status, error, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> ErrorAnswer {
        ErrorAnswer::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub fn invalid(message: impl Into<String>) -> ErrorAnswer {
        ErrorAnswer::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub fn too_large(message: impl Into<String>) -> ErrorAnswer {
        ErrorAnswer::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
}

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

impl IntoResponse for ErrorAnswer {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &ErrorBody { error: self.error, message: &self.message });
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
