//! Requests to queued, one function each.

use crate::failure::Failure;
use crate::queue_name::QueueName;
use crate::retry::Outage;
use crate::target::{Connection, Target, end_our_side};
use crate::wire::{
    ErrorBody, Extend, Lease, LeaseAnswer, LeaseRequest, Nack, Outcomes, PushAnswer, PushBatch, PushItem,
    PushedItem, SettleBatch,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use kit::client::ConnectError;
use kit::terminal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The time for an answer, in addition to the time that the request asks the server to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The time left for an answer that is on its way when a wait is cut short.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(2);
/// The length of the part of a foreign answer that messages show.
const EXCERPT_CHARS_MAX: usize = 60;
/// The bound on idle connections: enough for a worker's jobs and its keeper.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// A server, and the idle connections to it.
pub(crate) struct Client {
    target: Target,
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

/// The query of a path, question mark included. Empty if no value is given.
pub(crate) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let encoded =
        given.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    let joined = encoded.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

impl Client {
    pub(crate) fn new(target: Target, token_file: Option<PathBuf>) -> Client {
        Client {
            target,
            token_file,
            idle: Mutex::default(),
            outage: Outage::default(),
            was_queued: AtomicBool::new(false),
        }
    }

    pub(crate) fn server(&self) -> &str {
        self.target.authority()
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
        while let Some(connection) = self.usable() {
            match self.exchange(connection, self.request(method, path, &body)?, &wait).await {
                // The server had closed the idle connection, and has not seen the request.
                Err(Failure::Broken(e)) if e.is_canceled() || e.is_incomplete_message() || e.is_closed() => {}
                other => return other,
            }
        }
        let connect = self.target.connect();
        let connection = match wait.cut_short {
            None => connect.await,
            Some(cut_short) => {
                cut_short.run_until_cancelled(connect).await.unwrap_or(Err(Failure::WaitEnded))
            }
        };
        self.exchange(connection?, self.request(method, path, &body)?, &wait).await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        wait: &WaitLimit<'_>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let socket = connection.hang_up_handle().map_err(ConnectError::Refused)?;
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
                answer = &mut exchange => match answer.unwrap_or(Err(Failure::Timeout(wait.limit))) {
                    Err(Failure::Broken(e)) if e.is_parse() => {
                        return Err(self.foreign(format!("something other than HTTP ({e})")));
                    }
                    other => other?,
                },
                () = cut_short => {
                    end_our_side(&socket);
                    let last_word = timeout(LAST_WORD_WITHIN, exchange).await;
                    return last_word.ok().and_then(Result::ok).unwrap_or(Err(Failure::WaitEnded));
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

    fn request(&self, method: &Method, path: &str, body: &Payload) -> Result<Request<Full<Bytes>>, Failure> {
        let invalid = |e: hyper::http::Error| Failure::from(ConnectError::Refused(std::io::Error::other(e)));
        let mut request = Request::builder()
            .method(method)
            .uri(self.target.path(path))
            .header(HOST, self.target.authority())
            .header(USER_AGENT, concat!("queuectl/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body.bytes.clone()))
            .map_err(invalid)?;
        if body.is_json {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(path) = &self.token_file {
            // Read for each request, since a Secret is renewed while a worker runs.
            let failed = |e| Failure::Token(path.display().to_string(), e);
            let token = std::fs::read_to_string(path).map_err(failed)?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|e| failed(std::io::Error::other(e)))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
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
        let ErrorBody { error, message } = serde_json::from_slice(&body).unwrap_or_default();
        if error.is_empty() && !said_by_proxies(status) {
            return Err(self.not_queued(status, &body));
        }
        if !error.is_empty() {
            self.was_queued.store(true, Ordering::Relaxed);
        }
        Err(Failure::Refused { status: status.as_u16(), error, message })
    }

    fn not_queued(&self, status: StatusCode, body: &Bytes) -> Failure {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS_MAX)]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = terminal::excerpt(&text, EXCERPT_CHARS_MAX);
        let said = if text.is_empty() { String::new() } else { format!(" and \"{text}\"") };
        self.foreign(format!("{}{said}", status.as_u16()))
    }

    fn foreign(&self, answer: String) -> Failure {
        Failure::NotQueued { answer, was_queued: self.was_queued.load(Ordering::Relaxed) }
    }
}

/// Statuses that a proxy in front of queued sends in its own words: queued is away, the token is refused, or
/// a bound of the proxy is reached.
fn said_by_proxies(status: StatusCode) -> bool {
    match status.as_u16() {
        401 | 403 | 408 | 413 | 429 => true,
        // A web server answers with these two if it does not know the request at all.
        501 | 505 => false,
        500.. => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_cannot_leave_their_place() {
        assert_eq!(query(&[("key", None), ("seal", None)]), "");
        assert_eq!(
            query(&[("key", Some("a&b=ä ")), ("seal", Some("true"))]),
            "?key=a%26b%3D%C3%A4%20&seal=true"
        );
    }
}
