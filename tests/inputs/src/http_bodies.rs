//! Checks that any request to any of queued's paths gets an answer, and never a 500.

use axum::body::Body;
use axum::http::Request;
use kit::daemon::Context;
use kit::http::body::BodyBudget;
use kit::http::events::Streams;
use kit::lifecycle::stop::Stop;
use queued::engine::contract::Limits;
use queued::http::{Doors, Parts, history, router};
use queued::metrics::QueuedMetrics;
use queued::service::{Engine, Environment};
use std::time::Duration;
use tower::ServiceExt;

const PATHS: [(&str, &str); 17] = [
    ("PUT", "/v1/queues/q"),
    ("POST", "/v1/queues/q/items"),
    ("POST", "/v1/queues/q/batch"),
    ("POST", "/v1/queues/q/batch?seal=true"),
    ("POST", "/v1/queues/q/lease"),
    ("POST", "/v1/queues/q/ack"),
    ("POST", "/v1/queues/q/nack"),
    ("POST", "/v1/queues/q/extend"),
    ("POST", "/v1/queues/q/dead/redrive"),
    ("POST", "/v1/queues/q/dead/delete"),
    ("POST", "/memq/server/queues/q/enqueue"),
    ("POST", "/memq/server/queues/q/dequeue"),
    ("GET", "/v1/queues/q/items?limit=1000"),
    ("GET", "/v1/queues/q/items?text=a"),
    ("POST", "/v1/queues/q/items/delete"),
    ("POST", "/v1/queues/q/items/move"),
    ("GET", "/v1/queues"),
];

/// Sends requests to one server. They are separated by 0xff; each is a byte for the path and the content
/// type, then the body.
pub fn http_bodies(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let context = Context::new("queued", Stop::by_hand(Duration::from_secs(1)));
        let metrics = QueuedMetrics::register(&context.metrics);
        let around = Environment {
            drain: context.stop.drain.clone(),
            readiness: context.readiness,
            metrics: metrics.clone(),
        };
        let limits = Limits {
            queues_max: 4,
            checkpoint_bytes_max: u64::MAX,
            memory_bytes_max: 1 << 20,
            spills: false,
            answer_bytes_max: 5000,
        };
        let engine = Engine::in_memory(limits, around);
        let router = router(Doors::from(Parts {
            history: history::begin(&engine),
            engine,
            tokens: tokio::sync::watch::channel(None).1,
            item_bytes_max: 1000,
            request_bytes_max: 5000,
            room: BodyBudget::new(5000, 5000),
            answers: BodyBudget::new(5000, 5000),
            streams: Streams::at_most(1),
            metrics,
            drain: context.stop.drain,
        }));
        for request in bytes.split(|byte| *byte == 0xff) {
            let [which, body @ ..] = request else { continue };
            let (method, path) = PATHS[usize::from(*which) % PATHS.len()];
            let kind = if *which < 0x80 { "application/json" } else { "text/plain" };
            let request = Request::builder().method(method).uri(path).header("content-type", kind);
            let request = request.body(Body::from(body.to_vec())).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_ne!(answer.status(), 500, "{method} {path}");
        }
    });
}
