//! Errors of the protocol: a status, a code for programs, a message for people.

use super::json;
use crate::engine::contract::Refusal;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error answer: status 400 and above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub error: &'static str,
    pub message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'static str,
    message: &'a str,
}

impl Problem {
    pub fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, error, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub fn invalid(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    pub fn too_large(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
}

/// The flag that allows more, for the limits that are flags.
fn way_out(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoMemory { .. } => " (--max-memory)",
        Refusal::TooManyQueues(_) => " (--max-queues)",
        Refusal::TooMuchOfQueues { .. } => " (raise --segment-bytes, or use fewer queues or shorter names)",
        _ => "",
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (status, error) = match &refusal {
            Refusal::NoSuchQueue(_) => (StatusCode::NOT_FOUND, "no_such_queue"),
            Refusal::NoSuchItem(..) => (StatusCode::NOT_FOUND, "no_such_item"),
            Refusal::Sealed(_) => (StatusCode::CONFLICT, "sealed"),
            Refusal::Full(_) | Refusal::TooManyQueues(_) | Refusal::TooMuchOfQueues { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "full")
            }
            Refusal::NoSpace(_) | Refusal::NoMemory { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            Refusal::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Refusal::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Problem::new(status, error, format!("{refusal}{}", way_out(&refusal)))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &Body { error: self.error, message: &self.message });
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
