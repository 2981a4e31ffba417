//! Long answers have a bound together: each is in memory for as long as its reader takes.

use super::request::Room;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

/// Text, and the room that it takes until nobody needs it any more.
struct Held {
    text: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

pub fn body(text: impl Into<Bytes>, room: Option<OwnedSemaphorePermit>) -> Body {
    let text = text.into();
    match room {
        Some(room) => Body::from(Bytes::from_owner(Held { text, _room: room })),
        None => Body::from(text),
    }
}

/// A response that is in memory already takes its room.
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

/// For what only looks: it can be asked for again. What changes something sees to its room itself, where it can still be
/// undone.
pub async fn look(State(room): State<Room>, request: Request, next: Next) -> Response {
    let is_look = request.method() == Method::GET;
    let response = next.run(request).await;
    let Some(bytes) = response.body().size_hint().exact().filter(|_| is_look) else { return response };
    match room.hold(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(room) => keep(response, room).await,
        Err(problem) => problem.into_response(),
    }
}
