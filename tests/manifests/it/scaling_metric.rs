//! The trigger of our ScaledJob reads the backlog of the queue in which its workers work.

use crate::object::Typed;
use crate::rendering::{Rendering, examples};
use crate::run;
use crate::scaling::scaled_job;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use kit::daemon::Context;
use kit::http::body::BodyBudget;
use kit::http::events::Streams;
use kit::lifecycle::stop::Stop;
use queued::engine::contract::Limits;
use queued::http::{Doors, Parts, history, router};
use queued::metrics::QueuedMetrics;
use queued::service::{Engine, Environment};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

const BYTES_MAX: usize = 1 << 20;

/// Starts queued's HTTP interface, with items in memory.
fn queued() -> Router {
    let context = Context::new("queued", Stop::by_hand(Duration::ZERO));
    let metrics = QueuedMetrics::register(&context.metrics);
    let limits = Limits {
        queues_max: 10,
        checkpoint_bytes_max: u64::MAX,
        memory_bytes_max: BYTES_MAX as u64,
        spills: false,
        answer_bytes_max: BYTES_MAX as u64,
    };
    let drain = context.stop.drain.clone();
    let around = Environment { drain: drain.clone(), readiness: context.readiness, metrics: metrics.clone() };
    let engine = Engine::in_memory(limits, around);
    engine.start();
    let room = || BodyBudget::new(BYTES_MAX as u64, BYTES_MAX);
    router(Doors::from(Parts {
        history: history::begin(&engine),
        engine,
        tokens: watch::channel(None).1,
        item_bytes_max: BYTES_MAX,
        request_bytes_max: BYTES_MAX,
        room: room(),
        answers: room(),
        streams: Streams::at_most(1),
        metrics,
        drain,
    }))
}

struct Client(Router);

impl Client {
    async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let answer = self.0.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), BYTES_MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Posts to a path below the queue's, and returns the answer.
    async fn post(&self, queue: &str, path: &str, body: impl Into<Body>) -> Value {
        let (status, answer) = self.ask(Method::POST, &format!("{queue}/{path}"), body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }
}

#[tokio::test]
async fn trigger_reads_ready_delayed_and_leased_items() {
    let trigger = &scaled_job().triggers[0];
    assert_eq!(trigger.r#type, "metrics-api");
    let (_, rest) = trigger.metadata.url.split_once("://").unwrap();
    let queue = &rest[rest.find('/').unwrap()..];
    let client = Client(queued());
    assert_eq!(client.ask(Method::GET, queue, "").await.0, StatusCode::NOT_FOUND, "no queue, no value");

    assert_eq!(client.ask(Method::PUT, queue, r#"{"max_attempts": 1}"#).await.0, StatusCode::CREATED);
    client.post(queue, "items", "fails").await;
    let lease = client.post(queue, "lease", r#"{"max": 1}"#).await;
    let held = json!({"id": lease["items"][0]["id"], "token": lease["items"][0]["token"]});
    client.post(queue, "nack", json!({"items": [held]}).to_string()).await;
    client.post(queue, "batch", "1\n2\n3\n4\n5\n6\n7\n").await;
    client.post(queue, "lease", r#"{"max": 4}"#).await;
    client.post(queue, "batch?delay_ms=3600000", "8\n9\n").await;

    let (_, shown) = client.ask(Method::GET, queue, "").await;
    let counts = ["ready", "delayed", "leased", "dead"].map(|state| shown[state].as_u64());
    assert_eq!(counts, [3, 2, 4, 1].map(Some), "{shown}");
    let value = &shown[&trigger.metadata.value_location];
    assert_eq!(value.as_u64(), Some(3 + 2 + 4), "valueLocation {}", trigger.metadata.value_location);
}

#[test]
fn workers_work_in_the_queue_that_the_trigger_reads() {
    let url = &scaled_job().triggers[0].metadata.url;
    let pods: Vec<_> = examples().flat_map(Rendering::pods).collect();
    let mut pods = pods.iter().filter(|pod| matches!(pod.object.resource, Typed::ScaledJob(_)));
    let pod = pods.next().unwrap();
    let container = pod.containers().next().unwrap();
    let args = container.args.as_ref().unwrap();
    let named = args.iter().position(|arg| arg == "-q").map(|place| &args[place + 1]);
    assert_eq!(url.rsplit('/').next(), named.map(String::as_str), "the queue of the trigger");
    // Such a worker waits for delayed items, and ends although others still have leased ones.
    assert_eq!(run::of(pod, container).unwrap().works_until.as_deref(), Some("empty"));
}
