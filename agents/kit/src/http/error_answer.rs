//! Error answers of an API: a status, a code for programs and a message for people, in JSON.

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
struct Body<'a> {
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

    pub fn unavailable(message: impl Into<String>) -> ErrorAnswer {
        ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }
}

impl IntoResponse for ErrorAnswer {
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

/// A one-line JSON answer.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match json_text(body) {
        Some(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Returns one line of JSON; `None` if the body cannot be written as JSON.
pub fn json_text(body: &impl Serialize) -> Option<Vec<u8>> {
    let mut text = serde_json::to_vec(body).ok()?;
    text.push(b'\n');
    Some(text)
}
