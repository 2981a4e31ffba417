//! The admin endpoint: probes under the names that people try, metrics, and a drain from loopback.

use crate::http::Peer;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::readiness::{Liveness, Readiness};
use crate::stop::Stop;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};

/// What the endpoint tells and pulls.
#[derive(Clone, Debug)]
pub struct Admin {
    pub readiness: Readiness,
    pub liveness: Liveness,
    pub metrics: Metrics,
    pub stop: Stop,
}

/// The routes, to be served alone or merged into an agent's own HTTP door.
pub fn router(admin: Admin) -> Router {
    let mut router = Router::new()
        .route("/metrics", get(metrics))
        .route("/drain", post(drain))
        .route("/", get(async || "probes: /live /ready; metrics: /metrics; POST /drain from loopback\n"));
    for path in ["/live", "/livez", "/healthy", "/healthz"] {
        router = router.route(path, get(live));
    }
    for path in ["/ready", "/readyz"] {
        router = router.route(path, get(ready));
    }
    router.with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.readiness.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, admin.readiness.reasons()).into_response()
    }
}

async fn live(State(admin): State<Admin>) -> Response {
    match admin.liveness.stuck().await {
        None => "live\n".into_response(),
        Some(name) => (StatusCode::SERVICE_UNAVAILABLE, format!("{name} does not turn\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode() {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn drain(State(admin): State<Admin>, Extension(Peer(peer)): Extension<Peer>) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "only from loopback\n").into_response();
    }
    tracing::info!("draining: asked on the admin endpoint");
    admin.stop.begin_drain();
    "draining\n".into_response()
}
