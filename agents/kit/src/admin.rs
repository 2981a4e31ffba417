//! The admin endpoint: probes under the names that people try, metrics, and a drain from loopback.

use crate::http::Peer;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::page::Pages;
use crate::readiness::{Liveness, Readiness};
use crate::stop::Stop;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tower::ServiceExt;

/// What the endpoint tells and pulls.
#[derive(Clone, Debug)]
pub struct Admin {
    pub readiness: Readiness,
    pub liveness: Liveness,
    pub metrics: Metrics,
    pub stop: Stop,
}

/// The routes, to be merged into an agent's own HTTP door.
pub fn router(admin: Admin) -> Router {
    let mut router = Router::new().route("/metrics", get(metrics)).route("/drain", post(drain));
    for path in ["/live", "/livez", "/healthy", "/healthz"] {
        router = router.route(path, get(live));
    }
    for path in ["/ready", "/readyz"] {
        router = router.route(path, get(ready));
    }
    router.with_state(admin)
}

/// The routes on an endpoint of their own, and the agent's page behind them as soon as there is one.
pub fn endpoint(admin: Admin, pages: Pages) -> Router {
    router(admin).fallback(async move |request: Request| match pages.get() {
        Some(pages) => pages.clone().oneshot(request).await.into_response(),
        None if request.uri().path() == "/" => {
            "probes: /live /ready; metrics: /metrics; POST /drain from loopback\n".into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    })
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
