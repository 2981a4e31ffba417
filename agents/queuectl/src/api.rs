//! Requests to queued, one function each.

use crate::connection::{Connection, end_our_side};
use crate::failure::Failure;
use crate::queue_name::QueueName;
use crate::retry::Outage;
use crate::wire::{
    Extend, Lease, LeaseAnswer, LeaseRequest, Nack, Outcomes, PushAnswer, PushBatch, PushItem, PushedItem,
    SettleBatch,
};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use kit::caller::{CallError, CallNames, HttpCall, ServerOrigin, describe, query};
use kit::client::ConnectError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const NAMES: CallNames = CallNames {
    user_agent: concat!("queuectl/", env!("CARGO_PKG_VERSION")),
    server: "queued",
    variable: "QUEUE_URL",
};

/// The time for an answer, in addition to the time that the request asks the server to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The time left for an answer that is on its way when a wait is cut short.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(2);
/// The bound on idle connections: enough for a worker's jobs and its keeper.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// A server, and the idle connections to it.
pub(crate) struct Client {
    origin: ServerOrigin,
    token_file: Option<PathBuf>,
    idle: Mutex<Vec<Connection>>,
    pub(crate) outage: Outage,
    /// True once the server has answered in queued's own words.
    was_queued: AtomicBool,
}

/// The longest wait for an answer, and the token that ends the wait early.
struct WaitLimit<'a> {
    limit: Duration,
    cut_short: Option<&'a CancellationToken>,
}

impl WaitLimit<'_> {
    fn of_one_answer() -> WaitLimit<'static> {
        WaitLimit { limit: ANSWER_WITHIN, cut_short: None }
    }
}

/// The body of a request. A raw item is sent without a content type, since the server would keep it with the
/// item.
struct Payload {
    bytes: Bytes,
    is_json: bool,
}

impl Client {
    pub(crate) fn new(origin: ServerOrigin, token_file: Option<PathBuf>) -> Client {
        Client {
            origin,
            token_file,
            idle: Mutex::default(),
            outage: Outage::default(),
            was_queued: AtomicBool::new(false),
        }
    }

    pub(crate) fn server(&self) -> &str {
        self.origin.authority()
    }

    /// Waits for items. Cancelling `cut_short` ends the wait. Items that were leased by then are still
    /// returned, so that they can be released.
    pub(crate) async fn lease(
        &self,
        queue: &QueueName,
        request: &LeaseRequest<'_>,
        cut_short: &CancellationToken,
    ) -> Result<LeaseAnswer, Failure> {
        let limit = Duration::from_millis(request.wait_ms) + ANSWER_WITHIN;
        let wait = WaitLimit { limit, cut_short: Some(cut_short) };
        self.parsed(self.post(&format!("/v1/queues/{queue}/lease"), request, wait).await?)
    }

    pub(crate) async fn ack(&self, queue: &QueueName, items: &[Lease]) -> Result<Outcomes, Failure> {
        self.judged(&format!("/v1/queues/{queue}/ack"), items, ANSWER_WITHIN).await
    }

    pub(crate) async fn nack(&self, queue: &QueueName, items: &[Nack]) -> Result<Outcomes, Failure> {
        self.judged(&format!("/v1/queues/{queue}/nack"), items, ANSWER_WITHIN).await
    }

    pub(crate) async fn extend(
        &self,
        queue: &QueueName,
        items: &[Extend],
        limit: Duration,
    ) -> Result<Outcomes, Failure> {
        self.judged(&format!("/v1/queues/{queue}/extend"), items, limit.min(ANSWER_WITHIN)).await
    }

    /// Reads the result of each lease. A 200 and the 409 of a lost lease carry the same answer.
    async fn judged(
        &self,
        path: &str,
        items: &[impl Serialize],
        limit: Duration,
    ) -> Result<Outcomes, Failure> {
        let answer = self.post(path, &SettleBatch { items }, WaitLimit { limit, cut_short: None }).await?;
        if answer.0 == StatusCode::CONFLICT
            && let Ok(outcomes) = serde_json::from_slice(&answer.1)
        {
            return Ok(outcomes);
        }
        self.parsed(answer)
    }

    /// Pushes one item as it is. In JSON its bytes could take up to six times the room.
    pub(crate) async fn push_one(
        &self,
        queue: &QueueName,
        item: &PushItem,
        seal: bool,
    ) -> Result<PushedItem, Failure> {
        let delay_ms = item.delay_ms.map(|delay| delay.to_string());
        let query = query(&[
            ("key", item.key.as_deref()),
            ("delay_ms", delay_ms.as_deref()),
            ("seal", seal.then_some("true")),
        ]);
        let path = format!("/v1/queues/{queue}/items{query}");
        let body = Payload { bytes: Bytes::copy_from_slice(item.body.bytes()), is_json: false };
        self.parsed(self.call(&Method::POST, &path, body, WaitLimit::of_one_answer()).await?)
    }

    pub(crate) async fn push_batch(
        &self,
        queue: &QueueName,
        batch: &PushBatch<'_>,
    ) -> Result<PushAnswer, Failure> {
        let path = format!("/v1/queues/{queue}/batch");
        self.parsed(self.post(&path, batch, WaitLimit::of_one_answer()).await?)
    }

    /// Sends any other request, whose answer is only shown.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let body = Payload { bytes, is_json: true };
        let answer = self.call(method, path, body, WaitLimit::of_one_answer()).await?;
        if answer.0 == StatusCode::NO_CONTENT { Ok(Value::Null) } else { self.parsed(answer) }
    }

    async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        wait: WaitLimit<'_>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let body = serde_json::to_vec(body).map_err(Failure::Unwritable)?;
        self.call(&Method::POST, path, Payload { bytes: body.into(), is_json: true }, wait).await
    }

    async fn call(
        &self,
        method: &Method,
        path: &str,
        body: Payload,
        wait: WaitLimit<'_>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut call = HttpCall { body: body.bytes, ..HttpCall::new(method.clone(), path) };
        if body.is_json {
            call.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        while let Some(connection) = self.usable() {
            match self.exchange(connection, &call, &wait).await {
                // The server had closed the idle connection, and has not seen the request.
                Err(Failure::Call(CallError::Broken(e)))
                    if e.is_canceled() || e.is_incomplete_message() || e.is_closed() => {}
                other => return other,
            }
        }
        let connect = Connection::open(&self.origin);
        let connection = match wait.cut_short {
            None => connect.await,
            Some(cut_short) => cut_short.run_until_cancelled(connect).await.ok_or(Failure::WaitEnded)?,
        };
        self.exchange(connection?, &call, &wait).await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        call: &HttpCall<'_>,
        wait: &WaitLimit<'_>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.origin.request(call, NAMES.user_agent, self.token_file.as_deref())?;
        let socket = connection.hang_up_handle().map_err(|e| CallError::from(ConnectError::Refused(e)))?;
        let answer = {
            let mut exchange = std::pin::pin!(timeout(wait.limit, connection.exchange(request)));
            let cut_short = async {
                match wait.cut_short {
                    Some(cut_short) => cut_short.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut exchange => match answer.unwrap_or(Err(CallError::Timeout(wait.limit))) {
                    Err(CallError::Broken(e)) if e.is_parse() => {
                        return Err(self.foreign(format!("something other than HTTP ({e})")));
                    }
                    other => other?,
                },
                () = cut_short => {
                    end_our_side(&socket);
                    let last_word = timeout(LAST_WORD_WITHIN, exchange).await;
                    let answer = last_word.ok().and_then(Result::ok).ok_or(Failure::WaitEnded)?;
                    return Ok(answer?);
                }
            }
        };
        let mut idle = self.idle();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
        drop(idle);
        Ok(answer)
    }

    /// The connection that was used last, without those that the server has closed.
    fn usable(&self) -> Option<Connection> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find(Connection::is_usable)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads an answer, and distinguishes queued's refusals from those of another program that listens there.
    fn parsed<T: DeserializeOwned>(&self, (status, body): (StatusCode, Bytes)) -> Result<T, Failure> {
        if status.is_success() {
            let answer = serde_json::from_slice(&body).map_err(|_| self.not_queued(status, &body))?;
            self.was_queued.store(true, Ordering::Relaxed);
            return Ok(answer);
        }
        let refused = CallError::refused(status, &body).ok_or_else(|| self.not_queued(status, &body))?;
        if !refused.word().is_empty() {
            self.was_queued.store(true, Ordering::Relaxed);
        }
        Err(refused.into())
    }

    fn not_queued(&self, status: StatusCode, body: &[u8]) -> Failure {
        self.foreign(describe(status, body))
    }

    fn foreign(&self, answer: String) -> Failure {
        let was_server = self.was_queued.load(Ordering::Relaxed);
        CallError::Foreign { names: NAMES, answer, was_server }.into()
    }
}
