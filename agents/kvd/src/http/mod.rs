//! The HTTP doors: `/v1`, and the `/save`, `/load` and `/allKeys` of a Kubernetes course.

pub mod backup;
mod batch;
mod course;
mod etag;
pub mod follower;
mod keys;
mod request;
pub mod tokens;
mod value_text;
mod watch;

use crate::drain::Drain;
use crate::hot_keys::HotKeys;
use crate::keyspace::Keyspace;
use crate::metrics::{KvdMetrics, RequestLabels};
use crate::store::contract::{Revision, StoreError};
use crate::store::evaluation::Refusal;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kit::http::body::{BodyBudget, BodyLimit};
use kit::http::error_answer::{ErrorAnswer, json};
use kit::http::events::Streams;
use kit::http::origin::is_from_elsewhere;
use serde::Serialize;
use std::ops::Deref;
use std::sync::Arc;
use tokens::{KeyRight, KeyScope, KeyTokens};
use tokio::sync::{Semaphore, watch as latest};

/// The state that all handlers share. Cheap to clone, because every request clones it.
#[derive(Clone, Debug)]
pub struct Doors(Arc<DoorParts>);

#[derive(Debug)]
pub struct DoorParts {
    pub keyspace: Keyspace,
    pub tokens: latest::Receiver<KeyTokens>,
    pub drain: Drain,
    pub value_limit: BodyLimit,
    pub batch_limit: BodyLimit,
    /// The memory for bodies that are being received, and that for answers that are being read.
    pub room: BodyBudget,
    pub answers: BodyBudget,
    pub streams: Streams,
    pub backups: Arc<Semaphore>,
    pub hot_keys: Arc<HotKeys>,
    pub metrics: KvdMetrics,
}

impl From<DoorParts> for Doors {
    fn from(parts: DoorParts) -> Doors {
        Doors(Arc::new(parts))
    }
}

impl Deref for Doors {
    type Target = DoorParts;

    fn deref(&self) -> &DoorParts {
        &self.0
    }
}

impl Doors {
    fn permit(&self, headers: &HeaderMap, right: KeyRight) -> Result<KeyScope, ErrorAnswer> {
        tokens::permit(&self.tokens.borrow(), authorization(headers), right)
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()
}

/// Returns all routes of both doors. A test compares those of `/v1` with `openapi.json`.
pub fn router(doors: Doors) -> Router {
    let v1 = Router::new()
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/{*key}", get(keys::show).put(keys::put).delete(keys::delete))
        .route("/v1/batch", post(batch::batch))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/backup", get(backup::backup))
        .route("/v1/stats", get(keys::stats))
        .method_not_allowed_fallback(async || {
            let message = "this path has other methods";
            ErrorAnswer::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(axum::middleware::from_fn_with_state(doors.clone(), unless_going_down))
        .layer(axum::middleware::from_fn(own_pages_only))
        .layer(axum::middleware::from_fn_with_state(("v1", doors.clone()), count));
    let unknown = async || {
        let message = "nothing is at this path; try /v1/keys";
        ErrorAnswer::new(StatusCode::NOT_FOUND, "not_found", message)
    };
    let v1 = v1.route("/v1/{*unknown}", axum::routing::any(unknown));
    let course = Router::new()
        .fallback(course::answer)
        .layer(axum::middleware::from_fn_with_state(("course", doors.clone()), count));
    v1.fallback_service(course.with_state(doors.clone())).with_state(doors)
}

async fn unless_going_down(State(doors): State<Doors>, request: Request, next: Next) -> Response {
    if doors.drain.is_going_down() {
        let message = "the server is going down, or drained; try again, or kvd resume";
        return ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message).into_response();
    }
    next.run(request).await
}

async fn own_pages_only(request: Request, next: Next) -> Response {
    if is_from_elsewhere(&request) {
        let message = "not for the pages of another site";
        return ErrorAnswer::new(StatusCode::FORBIDDEN, "forbidden", message).into_response();
    }
    next.run(request).await
}

async fn count(State((door, doors)): State<(&'static str, Doors)>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status().as_u16();
    doors.metrics.requests.get_or_create(&RequestLabels { door, status }).inc();
    response
}

/// Maps a store's error to an answer of `/v1`.
fn store_error(error: &StoreError) -> ErrorAnswer {
    let (status, word) = match error {
        StoreError::NoSpace(_) => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
        StoreError::Busy(_) | StoreError::Broken(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    ErrorAnswer::new(status, word, error.to_string())
}

#[derive(Debug, Serialize)]
struct ConditionFailed<'a> {
    error: &'static str,
    message: String,
    /// The index of the failed operation in its batch.
    operation: usize,
    key: &'a str,
    /// The present revision of the key, if it exists.
    revision: Option<Revision>,
}

/// Builds the answer to a refused transaction. If a condition failed, the answer has the present revision.
fn refusal_response(refusal: &Refusal) -> Response {
    let answer = refusal_answer(refusal);
    let Refusal::ConditionFailed { operation, key, found } = refusal else { return answer.into_response() };
    let (error, message) = (answer.error, answer.message);
    let failed = ConditionFailed { error, message, operation: *operation, key, revision: *found };
    let mut response = json(answer.status, &failed);
    if let Some(revision) = found {
        response.headers_mut().insert(header::ETAG, etag::etag(*revision));
    }
    response
}

/// Maps a refusal to an error. `refusal_response` adds the present revision.
fn refusal_answer(refusal: &Refusal) -> ErrorAnswer {
    match refusal {
        Refusal::ConditionFailed { .. } => {
            ErrorAnswer::new(StatusCode::PRECONDITION_FAILED, "condition_failed", refusal.to_string())
        }
        Refusal::Twice(_) => ErrorAnswer::invalid(refusal.to_string()),
        Refusal::Full { .. } => {
            let message = format!("{refusal} (--max-bytes)");
            ErrorAnswer::new(StatusCode::INSUFFICIENT_STORAGE, "full", message)
        }
        Refusal::NoGrowth(_) => {
            ErrorAnswer::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", refusal.to_string())
        }
        Refusal::Store(error) => store_error(error),
    }
}
