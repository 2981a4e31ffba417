//! A shared limit on the memory of long answers: each stays in memory until its reader has received it.

use axum::body::{HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kit::http::body::{BodyBudget, held};
use tokio::sync::OwnedSemaphorePermit;

/// Attaches a share of the limit to a response that is already in memory.
pub async fn keep(response: Response, room: Option<OwnedSemaphorePermit>) -> Response {
    if room.is_none() {
        return response;
    }
    let (parts, whole) = response.into_parts();
    match to_bytes(whole, usize::MAX).await {
        Ok(text) => Response::from_parts(parts, held(text, room)),
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
