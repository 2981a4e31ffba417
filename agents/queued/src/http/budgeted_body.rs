//! A shared limit on the memory of long answers: each stays in memory until its reader has received it.

use super::request::BodyBudget;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

/// An answer's text with its share of the limit. Dropping the text returns the share.
struct BudgetedText {
    text: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for BudgetedText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

pub fn body(text: impl Into<Bytes>, room: Option<OwnedSemaphorePermit>) -> Body {
    let text = text.into();
    match room {
        Some(room) => Body::from(Bytes::from_owner(BudgetedText { text, _room: room })),
        None => Body::from(text),
    }
}

/// Attaches a share of the limit to a response that is already in memory.
pub async fn keep(response: Response, room: Option<OwnedSemaphorePermit>) -> Response {
    if room.is_none() {
        return response;
    }
    let (parts, whole) = response.into_parts();
    match to_bytes(whole, usize::MAX).await {
        Ok(text) => Response::from_parts(parts, body(text, room)),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Applies the limit to GET requests, which can simply be repeated. Handlers that change something acquire
/// their share themselves, while the change can still be undone.
pub async fn look(State(room): State<BodyBudget>, request: Request, next: Next) -> Response {
    let is_look = request.method() == Method::GET;
    let response = next.run(request).await;
    let Some(bytes) = response.body().size_hint().exact().filter(|_| is_look) else { return response };
    match room.hold(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(room) => keep(response, room).await,
        Err(problem) => problem.into_response(),
    }
}
