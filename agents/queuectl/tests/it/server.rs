//! A fake queued: the part of the protocol that queuectl uses, with faults on demand.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kit::net::accept::Gate;
use kit::net::allow::AllowList;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use trial::DEADLINE;

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) body: Value,
    pub(crate) key: Option<String>,
    pub(crate) attempts: u64,
}

/// The only queue, the reports about its items, and the faults to inject.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) ready: VecDeque<Item>,
    pub(crate) leased: BTreeMap<String, Item>,
    pub(crate) acked: Vec<String>,
    /// Body, reason, and true for a release.
    pub(crate) nacked: Vec<(String, String, bool)>,
    pub(crate) sealed: bool,
    pub(crate) extensions: u64,
    pub(crate) lease_ms: u64,
    pub(crate) retry_failed: bool,
    /// Requests whose answer is lost after they were applied, by the end of their path.
    pub(crate) lose_answers_to: Vec<&'static str>,
    /// Takes every lease away at the next extension.
    pub(crate) take_leases_away: bool,
    pub(crate) refuse: Option<u16>,
    /// Answers requests with this status and body, as another server would.
    pub(crate) foreign_answer: Option<(u16, &'static str)>,
    /// The names of the other queues, if this queue does not exist.
    pub(crate) missing: Option<Vec<&'static str>>,
    /// The longest request that is accepted. 0: no bound.
    pub(crate) request_bytes_max: usize,
    /// Leases no items.
    pub(crate) paused: bool,
    /// The number of dead items in the verdict.
    pub(crate) failed: u64,
    pub(crate) requests: Vec<String>,
    pub(crate) authorization: Option<String>,
    numbers: u64,
}

#[derive(Clone, Default)]
struct Shared {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    changed: Arc<Notify>,
}

/// A port that stays reserved for this test while nobody listens on it. Otherwise the system would give it to
/// the next connection of any process.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    pub(crate) fn reserve() -> Port {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Port { address: socket.local_addr().unwrap(), _bound: socket }
    }
}

pub(crate) struct Server {
    port: Port,
    shared: Shared,
    runtime: tokio::runtime::Handle,
    running: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        // The thread ends with the test's process.
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        let mut server =
            Server { port: Port::reserve(), shared: Shared::default(), runtime: handle, running: None };
        server.queue().lease_ms = 30_000;
        server.come_back();
        server
    }

    pub(crate) fn with(bodies: &[&str]) -> Server {
        let server = Server::start();
        for body in bodies {
            server.put(json!({ "body": body }));
        }
        server
    }

    pub(crate) fn put(&self, item: Value) {
        self.queue().push(item);
        self.shared.changed.notify_waiters();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.port.address)
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.0.lock().unwrap()
    }

    /// Cuts every connection and closes the port.
    pub(crate) fn vanish(&mut self) {
        let (quit, serving) = self.running.take().unwrap();
        quit.cancel();
        self.runtime.block_on(serving).unwrap();
    }

    /// Starts again on the same port, with the same queue.
    pub(crate) fn come_back(&mut self) {
        let _inside = self.runtime.enter();
        // A process that another test is just starting holds the old listener until its exec.
        let listener = loop {
            match kit::net::listen::bind(self.port.address) {
                Ok(listener) => break kit::net::listen::adopt(listener).unwrap(),
                Err(_) => std::thread::yield_now(),
            }
        };
        let allow = watch::channel(AllowList::new(&["any".parse().unwrap()])).1;
        let gate = Gate::new(listener, Arc::new(Semaphore::new(1000)), allow);
        let router = Router::new()
            .route("/v1/stats", get(stats))
            .route("/v1/queues", get(queues))
            .route("/v1/queues/{name}", get(queue))
            .route("/v1/queues/{name}/items/{action}", post(change_items))
            .route("/v1/queues/{name}/{action}", post(answer).get(search))
            .with_state(self.shared.clone());
        let quit = CancellationToken::new();
        let serving = self.runtime.spawn(kit::http::serve(gate, router, quit.clone(), quit.clone()));
        self.running = Some((quit, serving));
    }

    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Queue) -> bool) {
        let start = Instant::now();
        let mut queue = self.queue();
        while !condition(&queue) {
            assert!(start.elapsed() < DEADLINE, "waited in vain: {what}; {:?}", queue.requests);
            queue = self.shared.queue.1.wait_timeout(queue, Duration::from_millis(20)).unwrap().0;
        }
    }
}

impl Queue {
    fn push(&mut self, item: Value) -> Value {
        let key = item["key"].as_str().map(str::to_owned);
        let known = self.ready.iter().chain(self.leased.values()).find(|old| key.is_some() && old.key == key);
        if let Some(old) = known {
            return json!({"id": old.id, "duplicate": true});
        }
        self.numbers += 1;
        let id = format!("{:032x}", self.numbers);
        self.ready.push_back(Item { id: id.clone(), body: item, key, attempts: 0 });
        json!({"id": id, "duplicate": false})
    }

    fn settle(&mut self, lease: &Value, nack: bool) -> Value {
        let id = lease["id"].as_str().unwrap().to_owned();
        let Some(mut item) = self.leased.remove(lease["token"].as_str().unwrap()) else {
            return json!({"id": id, "status": "lost"});
        };
        let body = item.body["body"].as_str().unwrap_or("no text").to_owned();
        if !nack {
            self.acked.push(body);
            return json!({"id": id, "status": "ok"});
        }
        let release = lease["release"] == true;
        self.nacked.push((body, lease["reason"].as_str().unwrap_or_default().to_owned(), release));
        if release {
            item.attempts -= 1;
        }
        if release || self.retry_failed {
            self.ready.push_front(item);
        }
        json!({"id": id, "status": "ok"})
    }

    fn extend(&mut self, lease: &Value) -> Value {
        self.extensions += 1;
        let token = lease["token"].as_str().unwrap();
        if self.take_leases_away
            && let Some(item) = self.leased.remove(token)
        {
            self.ready.push_back(item);
        }
        let status = if self.leased.contains_key(token) { "ok" } else { "lost" };
        json!({"id": lease["id"], "status": status, "lease_ms": lease["lease_ms"]})
    }

    fn lease(&mut self, max: u64) -> Vec<Value> {
        let mut items = Vec::new();
        while u64::try_from(items.len()).unwrap() < max
            && let Some(mut item) = self.ready.pop_front()
        {
            item.attempts += 1;
            self.numbers += 1;
            let token = format!("{:016x}", self.numbers);
            let mut leased = json!({"id": item.id, "token": token, "attempt": item.attempts, "lease_ms": self.lease_ms,
                "pushed_at": "2026-11-21T09:47:20.123Z"});
            for (name, value) in item.body.as_object().unwrap() {
                leased[name] = value.clone();
            }
            items.push(leased);
            self.leased.insert(token, item);
        }
        items
    }

    fn verdict(&self) -> &'static str {
        match (self.numbers, self.ready.is_empty() && self.leased.is_empty()) {
            (0, _) => "pending",
            (_, true) => "drained",
            (_, false) => "working",
        }
    }
}

async fn answer(
    State(shared): State<Shared>,
    Path((_, action)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let each = |name: &str| request[name].as_array().cloned().unwrap_or_default();
    let mut results = Vec::new();
    {
        let mut queue = shared.queue.0.lock().unwrap();
        queue.requests.push(action.clone());
        queue.authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        if let Some(status) = queue.refuse {
            shared.queue.1.notify_all();
            let refusal = json!({"error": "refused", "message": "as told"}).to_string();
            return (StatusCode::from_u16(status).unwrap(), refusal).into_response();
        }
        if let Some((status, text)) = queue.foreign_answer {
            return (StatusCode::from_u16(status).unwrap(), text).into_response();
        }
        if queue.missing.is_some() && action == "lease" {
            shared.queue.1.notify_all();
            return no_such_queue();
        }
        if queue.request_bytes_max > 0 && body.len() > queue.request_bytes_max {
            shared.queue.1.notify_all();
            let refusal = json!({"error": "too_large", "message": "at most a few bytes"}).to_string();
            return (StatusCode::PAYLOAD_TOO_LARGE, refusal).into_response();
        }
        match action.as_str() {
            "ack" => results.extend(each("items").iter().map(|lease| queue.settle(lease, false))),
            "nack" => results.extend(each("items").iter().map(|lease| queue.settle(lease, true))),
            "extend" => results.extend(each("items").iter().map(|lease| queue.extend(lease))),
            "batch" => results.extend(each("items").into_iter().map(|item| queue.push(item))),
            "items" => {
                let mut item = match std::str::from_utf8(&body) {
                    Ok(text) => json!({"body": text}),
                    Err(_) => json!({"body_base64": STANDARD.encode(&body)}),
                };
                item["key"] = query.get("key").cloned().into();
                results.push(queue.push(item));
            }
            "lease" => {
                results.extend(each("ack").iter().map(|lease| queue.settle(lease, false)));
                results.extend(each("nack").iter().map(|lease| queue.settle(lease, true)));
            }
            _ => {}
        }
        queue.sealed |= request["seal"] == true || query.contains_key("seal") || action == "seal";
    }
    shared.changed.notify_waiters();
    shared.queue.1.notify_all();
    let answer = match action.as_str() {
        "lease" => lease(&shared, &request, &results).await,
        "items" => results[0].clone(),
        "batch" => json!({"items": results, "sealed": request["seal"]}),
        _ => json!({"results": results, "verdict": "working"}),
    };
    let mut queue = shared.queue.0.lock().unwrap();
    if let Some(at) = queue.lose_answers_to.iter().position(|lost| *lost == action) {
        queue.lose_answers_to.remove(at);
        shared.queue.1.notify_all();
        drop(queue);
        // Ends this connection's task, and with it the connection.
        std::panic::resume_unwind(Box::new("the answer gets lost"));
    }
    let lost = results.iter().any(|result| result["status"] == "lost") && action != "lease";
    (if lost { StatusCode::CONFLICT } else { StatusCode::OK }, answer.to_string()).into_response()
}

fn no_such_queue() -> Response {
    let refusal = json!({"error": "no_such_queue", "message": "there is no such queue"}).to_string();
    (StatusCode::NOT_FOUND, refusal).into_response()
}

/// Searches one item for each request, as a server does that bounds the work of a request.
async fn search(State(shared): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let mut queue = shared.queue.0.lock().unwrap();
    queue.requests.push("search".to_owned());
    let after = query.get("after").cloned().unwrap_or_default();
    let mut later = queue.ready.iter().filter(|item| item.id > after);
    let Some(item) = later.next() else { return json!({"items": []}).to_string().into_response() };
    let is_found = item.body["body"].as_str().unwrap().contains(&query["text"]);
    let found =
        is_found.then(|| json!({"id": item.id, "state": "ready", "attempts": 0, "body": item.body["body"]}));
    let mut answer = json!({"items": found.into_iter().collect::<Vec<_>>()});
    if later.next().is_some() {
        answer["next"] = item.id.clone().into();
    }
    answer.to_string().into_response()
}

/// Deletes or moves at most two items with one request.
async fn change_items(State(shared): State<Shared>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let ids = request["ids"].as_array().unwrap();
    let mut queue = shared.queue.0.lock().unwrap();
    let mut count = 0;
    queue.ready.retain(|item| {
        let is_meant = count < 2 && ids.iter().any(|id| *id == item.id);
        count += usize::from(is_meant);
        !is_meant
    });
    json!({ "count": count }).to_string().into_response()
}

async fn stats(State(shared): State<Shared>) -> Response {
    let others = shared.queue.0.lock().unwrap().missing.as_ref().map_or(0, Vec::len);
    json!({"queues": others}).to_string().into_response()
}

async fn queues(State(shared): State<Shared>) -> Response {
    let queue = shared.queue.0.lock().unwrap();
    if let Some((status, text)) = queue.foreign_answer {
        return (StatusCode::from_u16(status).unwrap(), text).into_response();
    }
    let names = queue.missing.iter().flatten();
    json!({"queues": names.map(|name| json!({"name": name})).collect::<Vec<_>>()}).to_string().into_response()
}

async fn queue(State(shared): State<Shared>) -> Response {
    let queue = shared.queue.0.lock().unwrap();
    if queue.missing.is_some() {
        return no_such_queue();
    }
    json!({"verdict": queue.verdict(), "dead": queue.failed, "failed": queue.failed})
        .to_string()
        .into_response()
}

async fn lease(shared: &Shared, request: &Value, results: &[Value]) -> Value {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let mut queue = shared.queue.0.lock().unwrap();
            let max = if queue.paused { 0 } else { request["max"].as_u64().unwrap() };
            let items = queue.lease(max);
            let verdict = queue.verdict();
            if !items.is_empty() || verdict == "drained" || queue.paused {
                shared.queue.1.notify_all();
                let done = items.is_empty() && verdict == "drained";
                return json!({"items": items, "done": done, "verdict": verdict, "sealed": queue.sealed,
                    "failed": queue.failed, "paused": queue.paused, "results": results});
            }
        }
        changed.await;
    }
}
