//! The admin endpoint: probes under their usual names, metrics, and a drain from loopback.

use crate::http::Peer;
use crate::http::origin::{is_forwarded, is_from_elsewhere};
use crate::lifecycle::readiness::{Liveness, Readiness};
use crate::lifecycle::stop::Stop;
use crate::page::Pages;
use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tower::ServiceExt;

/// The state that the endpoint reports, and the stop that it triggers.
#[derive(Clone, Debug)]
pub struct Admin {
    pub readiness: Readiness,
    pub liveness: Liveness,
    pub metrics: Metrics,
    pub stop: Stop,
}

/// The routes, to be merged into an agent's own HTTP router.
pub fn router(admin: Admin) -> Router {
    let more = Router::new().route("/metrics", get(metrics)).route("/drain", post(drain));
    probes(admin.clone()).merge(more.with_state(admin))
}

/// The probes alone, for the HTTP address of an agent that has a separate admin endpoint. Load balancers and
/// people probe the port that they use.
pub fn probes(admin: Admin) -> Router {
    let mut router = Router::new();
    for path in ["/live", "/livez", "/healthy", "/healthz"] {
        router = router.route(path, get(live));
    }
    for path in ["/ready", "/readyz"] {
        router = router.route(path, get(ready));
    }
    router.with_state(admin)
}

/// The routes on their own endpoint, with the agent's page once it is set.
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
        Some(name) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the event loop of {name} is stuck\n")).into_response()
        }
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode() {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn drain(
    State(admin): State<Admin>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let is_here = peer.ip().to_canonical().is_loopback() && !is_forwarded(request.headers());
    if !is_here || is_from_elsewhere(&request) {
        let why = "allowed only from loopback, neither through a proxy nor from another site's page\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    tracing::info!(event = "drain_started", "draining: requested at the admin endpoint");
    admin.stop.begin_drain();
    "draining\n".into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use axum::body::Body;
    use std::time::Duration;

    /// Asks for a drain as this peer. Returns the status, and true if the drain began.
    async fn drain(peer: &str, headers: &[(&str, &str)]) -> (u16, bool) {
        let stop = Stop::by_hand(Duration::from_secs(1));
        let admin = Admin {
            readiness: Readiness::starting(),
            liveness: Liveness::default(),
            metrics: Metrics::new("test"),
            stop: stop.clone(),
        };
        let mut request = Request::post("/drain").extension(Peer(peer.parse().unwrap()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = router(admin).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        (answer.status().as_u16(), stop.drain.is_cancelled())
    }

    #[tokio::test]
    async fn drain_is_only_for_this_host() {
        for here in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(drain(here, &[]).await, (200, true), "{here}");
        }
        for elsewhere in ["10.0.0.7:9", "[::ffff:10.0.0.7]:9", "[fe80::1]:9", "[::ffff:0:127.0.0.1]:9"] {
            assert_eq!(drain(elsewhere, &[]).await, (403, false), "{elsewhere}");
            let forwarded = [("x-forwarded-for", "127.0.0.1"), ("host", "127.0.0.1:7667")];
            assert_eq!(drain(elsewhere, &forwarded).await, (403, false), "{elsewhere}");
        }
        for proxy in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
            assert_eq!(drain("127.0.0.1:9", &[(proxy, "127.0.0.1")]).await, (403, false), "{proxy}");
        }
        for site in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
            assert_eq!(drain("127.0.0.1:9", &[site]).await, (403, false), "{site:?}");
        }
    }
}
