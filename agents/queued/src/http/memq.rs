//! kuard's queue API under `/memq/server`, byte for byte, on the same queues.

use super::request::Path;
use super::tokens::Right;
use super::{Doors, budgeted_body, time};
use crate::engine::contract::{LeaseRequest, NewItem, QueueView, SettleAction, Settlement};
use crate::engine::item::ItemId;
use crate::engine::policy::PolicyChange;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use kit::http::error_answer::ErrorAnswer;
use serde::Serialize;

/// A dequeue leases the item and acks it at once; the lease only has to last until then.
const DEQUEUE_LEASE_MS: u64 = 30_000;

/// Delays an item that this API cannot carry, so that the same request does not lease it again.
const UNREADABLE_RESTS_MS: u64 = 1_000;

pub fn routes() -> Router<Doors> {
    Router::new()
        .route("/memq/server/stats", get(stats))
        .route("/memq/server/queues/{name}", put(create).delete(delete))
        .route("/memq/server/queues/", put(async || empty_name()).delete(async || empty_name()))
        .route("/memq/server/queues/{name}/drain", post(drain))
        .route("/memq/server/queues/{name}/enqueue", post(enqueue))
        .route("/memq/server/queues/{name}/dequeue", post(dequeue))
}

pub fn empty_name() -> Response {
    text(StatusCode::BAD_REQUEST, "empty name")
}

/// Writes a text answer as Go's `http.Error` does.
fn text(status: StatusCode, line: &str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, format!("{line}\n")).into_response()
}

/// Answers with kuard's error if kuard has one, otherwise with our message as a line.
fn refused(problem: impl Into<ErrorAnswer>) -> Response {
    let problem = problem.into();
    match (problem.error, problem.status) {
        ("no_such_queue", _) => text(StatusCode::BAD_REQUEST, "does not exist"),
        (_, StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_FOUND | StatusCode::CONFLICT) => {
            text(StatusCode::BAD_REQUEST, &problem.message)
        }
        (_, status) => text(status, &problem.message),
    }
}

/// Writes JSON as Go's encoder does: `<`, `>`, `&` and two line separators escaped, a newline at the end.
fn go_json(body: &impl Serialize) -> Response {
    let Ok(line) = serde_json::to_string(body) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut escaped = String::with_capacity(line.len() + 1);
    for character in line.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped.push('\n');
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 UTC"),
        (header::CACHE_CONTROL, "no-cache, private, max-age=0"),
        (header::PRAGMA, "no-cache"),
    ];
    (headers, escaped).into_response()
}

#[derive(Serialize)]
struct Message<'a> {
    kind: &'static str,
    id: String,
    body: &'a str,
    #[serde(rename = "creationTimestamp")]
    created: String,
}

impl<'a> Message<'a> {
    fn new(id: ItemId, body: &'a str, pushed_ms: u64) -> Message<'a> {
        // Go omits zeros at the end of a fraction.
        let time = time(pushed_ms);
        let time = time.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
        Message { kind: "message", id: id.to_string(), body, created: format!("{time}Z") }
    }
}

/// Checks the token's right and that the name is not empty.
fn permit(doors: &Doors, headers: &HeaderMap, name: &str, right: Right) -> Result<(), Box<Response>> {
    doors.permit_new(headers, right).map_err(|problem| Box::new(refused(problem)))?;
    if name.is_empty() { Err(Box::new(empty_name())) } else { Ok(()) }
}

async fn create(State(doors): State<Doors>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    if let Err(response) = permit(&doors, &headers, &name, Right::PushOrAdmin) {
        return *response;
    }
    match doors.engine.configure(&name, PolicyChange::default()).await {
        Ok((true, _)) => StatusCode::OK.into_response(),
        Ok((false, _)) => text(StatusCode::BAD_REQUEST, "already exists"),
        Err(refusal) => refused(refusal),
    }
}

async fn delete(State(doors): State<Doors>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    if let Err(response) = permit(&doors, &headers, &name, Right::Admin) {
        return *response;
    }
    match doors.engine.delete(&name).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => refused(refusal),
    }
}

async fn drain(State(doors): State<Doors>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    if let Err(response) = permit(&doors, &headers, &name, Right::Admin) {
        return *response;
    }
    match doors.engine.drain(&name).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(refusal) => refused(refusal),
    }
}

async fn enqueue(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if let Err(response) = permit(&doors, &headers, &name, Right::Push) {
        return *response;
    }
    let enqueued = async {
        let bytes = doors.item_body(&headers, body).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| ErrorAnswer::invalid("not UTF-8"))?;
        // Unlike /v1, this API does not create queues implicitly.
        doors.engine.queue(&name).await?;
        let item = NewItem { body: (*bytes).into(), ..NewItem::default() };
        let ids = doors.engine.push(&name, vec![item], false).await?;
        let (id, _) = ids.into_iter().next().ok_or_else(|| ErrorAnswer::invalid("no id"))?;
        // A worker may have acked the item already: then it was pushed just now.
        let pushed_ms = match doors.engine.item(&name, id).await {
            Ok(item) => item.pushed_ms,
            Err(_) => u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0),
        };
        Ok::<_, ErrorAnswer>(go_json(&Message::new(id, text, pushed_ms)))
    };
    enqueued.await.unwrap_or_else(refused)
}

async fn dequeue(State(doors): State<Doors>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    if let Err(response) = permit(&doors, &headers, &name, Right::Work) {
        return *response;
    }
    let dequeued = async {
        loop {
            let request =
                LeaseRequest { max: 1, lease_ms: Some(DEQUEUE_LEASE_MS), ..LeaseRequest::default() };
            let leased = doors.engine.lease(&name, request).await?;
            let Some(item) = leased.items.into_iter().next() else {
                return Ok::<_, ErrorAnswer>(StatusCode::NO_CONTENT.into_response());
            };
            let (id, token) = (item.id, item.token);
            let Ok(body) = std::str::from_utf8(&item.body) else {
                // This API cannot carry the item. It is nacked, so that it becomes a dead letter in the end.
                let reason = Some("the item is not UTF-8, which /memq/server cannot return".into());
                let action =
                    SettleAction::Nack { delay_ms: Some(UNREADABLE_RESTS_MS), reason, release: false };
                doors.engine.settle(&name, vec![Settlement { id, token, action }]).await?;
                continue;
            };
            let room = match doors.answers.hold(body.len()) {
                Ok(room) => room,
                Err(problem) => {
                    // Many requests that wait for the disk must not hold bodies.
                    drop(item);
                    doors
                        .engine
                        .settle(&name, vec![Settlement { id, token, action: SettleAction::RELEASE }])
                        .await?;
                    return Err(problem);
                }
            };
            doors.engine.settle(&name, vec![Settlement { id, token, action: SettleAction::Ack }]).await?;
            return Ok(budgeted_body::keep(go_json(&Message::new(id, body, item.pushed_ms)), room).await);
        }
    };
    dequeued.await.unwrap_or_else(refused)
}

async fn stats(State(doors): State<Doors>, headers: HeaderMap) -> Response {
    #[derive(Serialize)]
    struct Stats {
        kind: &'static str,
        queues: Vec<Stat>,
    }
    #[derive(Serialize)]
    struct Stat {
        name: Box<str>,
        depth: u64,
        enqueued: u64,
        dequeued: u64,
        drained: u64,
    }
    if let Err(problem) = doors.permit(&headers, Right::Read) {
        return refused(problem);
    }
    let queues = match doors.engine.queues().await {
        Ok(queues) => queues,
        Err(refusal) => return refused(refusal),
    };
    let stat = |view: QueueView| Stat {
        depth: view.backlog(),
        enqueued: view.counters.pushed,
        dequeued: view.counters.acked,
        drained: view.counters.drained,
        name: view.name,
    };
    go_json(&Stats { kind: "stats", queues: queues.into_iter().map(stat).collect() })
}
