//! The HTTP doors: `/v1`, kuard's API under `/memq/server`, and the page for people.

pub mod attempt;
pub mod budgeted_body;
mod dead;
pub mod engine_errors;
pub mod events;
pub mod fast_path;
pub mod history;
pub mod items;
pub mod memq;
pub mod page;
pub mod push;
pub mod queues;
pub mod request;
pub mod short_requests;
pub mod tokens;
pub mod work;

use crate::metrics::{Answered, QueuedMetrics};
use crate::service::Engine;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use kit::http::body::{BodyBudget, BodyLimit, ReceivedBody, held};
use kit::http::error_answer::ErrorAnswer;
use kit::http::events::Streams;
use kit::http::origin::is_from_elsewhere;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::Serialize;
use std::ops::Deref;
use std::sync::Arc;
use tokens::{Right, Tokens};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

/// The state that handlers share; cheap to clone, since every request clones it.
#[derive(Debug)]
pub struct Doors(Arc<Parts>);

#[derive(Debug)]
pub struct Parts {
    pub engine: Engine,
    pub tokens: watch::Receiver<Tokens>,
    pub item_bytes_max: usize,
    pub request_bytes_max: usize,
    pub room: BodyBudget,
    /// The limit on answers that are being read.
    pub answers: BodyBudget,
    pub streams: Streams,
    pub history: history::SharedHistory,
    pub metrics: QueuedMetrics,
    pub drain: CancellationToken,
}

impl From<Parts> for Doors {
    fn from(parts: Parts) -> Doors {
        Doors(Arc::new(parts))
    }
}

impl Clone for Doors {
    fn clone(&self) -> Doors {
        Doors(self.0.clone())
    }
}

impl Deref for Doors {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Doors {
    /// Receives the body of a request. Limits its length as sent, without the framing of chunks.
    pub async fn body(&self, headers: &HeaderMap, body: Body) -> Result<ReceivedBody, ErrorAnswer> {
        request_limit(self.request_bytes_max).receive(headers, body, &self.room).await
    }

    /// Receives a body that is one item: both limits apply to it.
    pub async fn item_body(&self, headers: &HeaderMap, body: Body) -> Result<ReceivedBody, ErrorAnswer> {
        self.raw_item_limit().receive(headers, body, &self.room).await
    }

    fn raw_item_limit(&self) -> BodyLimit {
        match self.item_bytes_max <= self.request_bytes_max {
            true => item_limit(self.item_bytes_max),
            false => request_limit(self.request_bytes_max),
        }
    }

    pub fn permit(&self, headers: &HeaderMap, right: Right) -> Result<(), ErrorAnswer> {
        self.permit_token(authorization(headers), right)
    }

    /// Checks the token for a request that begins something new; refuses all of them while the server drains.
    pub fn permit_new(&self, headers: &HeaderMap, right: Right) -> Result<(), ErrorAnswer> {
        self.permit_new_token(authorization(headers), right)
    }

    fn permit_token(&self, authorization: Option<&str>, right: Right) -> Result<(), ErrorAnswer> {
        tokens::permit(&self.tokens.borrow(), authorization, right)
    }

    fn permit_new_token(&self, authorization: Option<&str>, right: Right) -> Result<(), ErrorAnswer> {
        self.permit_token(authorization, right)?;
        if self.drain.is_cancelled() {
            let message = "the server is shutting down; try again in a moment";
            return Err(ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message));
        }
        Ok(())
    }
}

/// The limit on a body that is one item.
fn item_limit(bytes_max: usize) -> BodyLimit {
    BodyLimit { what: "an item", flag: "--max-item-bytes", bytes_max }
}

/// The limit on any other body.
fn request_limit(bytes_max: usize) -> BodyLimit {
    BodyLimit { what: "the body of a request", flag: "--max-request-bytes", bytes_max }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
}

/// Returns all routes of both doors. A test compares them with `openapi.json`.
pub fn router(doors: Doors) -> Router {
    let requests = doors.metrics.requests.clone();
    let look = axum::middleware::from_fn_with_state(doors.answers.clone(), budgeted_body::look);
    let v1 = Router::new()
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{name}", put(queues::configure).get(queues::show).delete(queues::delete))
        .route("/v1/queues/{name}/drain", post(queues::drain))
        .route("/v1/queues/{name}/seal", post(queues::seal))
        .route("/v1/queues/{name}/unseal", post(queues::unseal))
        .route("/v1/queues/{name}/pause", post(queues::pause))
        .route("/v1/queues/{name}/resume", post(queues::resume))
        .route("/v1/queues/{name}/items", post(push::one).get(items::list))
        .route("/v1/queues/{name}/items/{id}", get(items::show))
        .route("/v1/queues/{name}/items/delete", post(items::delete))
        .route("/v1/queues/{name}/items/move", post(items::move_to))
        .route("/v1/queues/{name}/batch", post(push::batch))
        .route("/v1/queues/{name}/lease", post(work::lease))
        .route("/v1/queues/{name}/ack", post(work::ack))
        .route("/v1/queues/{name}/nack", post(work::nack))
        .route("/v1/queues/{name}/extend", post(work::extend))
        .route("/v1/queues/{name}/dead", get(dead::list))
        .route("/v1/queues/{name}/dead/redrive", post(dead::redrive))
        .route("/v1/queues/{name}/dead/delete", post(dead::delete))
        .route("/v1/stats", get(queues::stats))
        .route("/v1/events", get(events::events))
        .layer(look)
        .layer(axum::middleware::from_fn_with_state(("v1", requests.clone()), count));
    let memq = memq::routes().layer(axum::middleware::from_fn_with_state(("memq", requests), count));
    v1.merge(memq)
        .layer(axum::middleware::from_fn(own_pages_only))
        .merge(page::routes())
        .method_not_allowed_fallback(async || {
            ErrorAnswer::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not have this method",
            )
        })
        .fallback(async |request: Request| match request.uri().path().starts_with("/memq/server/queues/") {
            true => memq::empty_name(),
            false => ErrorAnswer::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
                .into_response(),
        })
        .with_state(doors)
}

async fn own_pages_only(request: Request, next: Next) -> Response {
    if is_from_elsewhere(&request) {
        let message = "not allowed from another site's page";
        return ErrorAnswer::new(StatusCode::FORBIDDEN, "forbidden", message).into_response();
    }
    next.run(request).await
}

async fn count(
    State((door, requests)): State<(&'static str, Family<Answered, Counter>)>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    requests.get_or_create(&Answered { door, status: response.status().as_u16() }).inc();
    response
}

/// A one-line JSON answer.
#[derive(Debug)]
pub struct Line {
    pub status: StatusCode,
    pub text: Vec<u8>,
    /// A long answer's share of the limit on answers.
    pub room: Option<OwnedSemaphorePermit>,
}

const JSON: &str = "application/json";

impl Line {
    pub fn new(status: StatusCode, body: &impl Serialize) -> Line {
        let mut text = Vec::with_capacity(256);
        match serde_json::to_writer(&mut text, body) {
            Ok(()) => text.push(b'\n'),
            Err(_) => {
                return Line { status: StatusCode::INTERNAL_SERVER_ERROR, text: Vec::new(), room: None };
            }
        }
        Line { status, text, room: None }
    }
}

impl IntoResponse for Line {
    fn into_response(self) -> Response {
        let mut response = Response::new(held(self.text, self.room));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        response
    }
}

pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    Line::new(status, body).into_response()
}

/// Formats a time as RFC 3339 with milliseconds.
pub fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// A body as `body` if it is text, else as `body_base64`.
#[derive(Serialize)]
pub struct BodyText {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl From<Box<[u8]>> for BodyText {
    fn from(bytes: Box<[u8]>) -> BodyText {
        use base64::Engine as _;
        match String::from_utf8(bytes.into_vec()) {
            Ok(body) => BodyText { body: Some(body), body_base64: None },
            Err(e) => {
                let text = base64::engine::general_purpose::STANDARD.encode(e.as_bytes());
                BodyText { body: None, body_base64: Some(text) }
            }
        }
    }
}
