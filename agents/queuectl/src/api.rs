//! Requests to queued: one function for each that this client makes.

use crate::failure::Failure;
use crate::queue_name::QueueName;
use crate::target::{Connection, Target, end_our_side};
use crate::wire::{
    Batch, Extend, Lease, LeaseAnswer, LeaseRequest, Nack, Outcomes, PushBatch, Pushed, Refusal,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use kit::client::NoConnection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Beyond what a request asks the server to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// An answer that was on its way when the wait was ended is there by then.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(2);
/// A worker's slots and its keeper; more than that are not kept open.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// A server, and the connections to it that wait for their next request.
pub(crate) struct Client {
    target: Target,
    token_file: Option<PathBuf>,
    idle: Mutex<Vec<Connection>>,
}

/// How long to wait for an answer, and what cuts it short.
struct Patience<'a> {
    limit: Duration,
    hurry: Option<&'a CancellationToken>,
}

impl Client {
    pub(crate) fn new(target: Target, token_file: Option<PathBuf>) -> Client {
        Client { target, token_file, idle: Mutex::default() }
    }

    pub(crate) fn server(&self) -> &str {
        self.target.authority()
    }

    /// Waits for items. When `hurry` is cancelled the wait ends, but items that were leased by then are
    /// still handed over, so that they can be given back.
    pub(crate) async fn lease(
        &self,
        queue: &QueueName,
        request: &LeaseRequest<'_>,
        hurry: &CancellationToken,
    ) -> Result<LeaseAnswer, Failure> {
        let limit = Duration::from_millis(request.wait_ms) + ANSWER_WITHIN;
        let patience = Patience { limit, hurry: Some(hurry) };
        parsed(self.post(&format!("/v1/queues/{queue}/lease"), request, patience).await?)
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

    /// 200 and the 409 of a lost lease carry the same: what became of each.
    async fn judged(
        &self,
        path: &str,
        items: &[impl Serialize],
        limit: Duration,
    ) -> Result<Outcomes, Failure> {
        let answer = self.post(path, &Batch { items }, Patience { limit, hurry: None }).await?;
        if answer.0 == StatusCode::CONFLICT
            && let Ok(outcomes) = serde_json::from_slice(&answer.1)
        {
            return Ok(outcomes);
        }
        parsed(answer)
    }

    pub(crate) async fn push(&self, queue: &QueueName, batch: &PushBatch) -> Result<Pushed, Failure> {
        let patience = Patience { limit: ANSWER_WITHIN, hurry: None };
        parsed(self.post(&format!("/v1/queues/{queue}/batch"), batch, patience).await?)
    }

    /// Everything else: what it answers is shown, not acted upon.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let patience = Patience { limit: ANSWER_WITHIN, hurry: None };
        let answer = self.call(method, path, body, patience).await?;
        if answer.0 == StatusCode::NO_CONTENT { Ok(Value::Null) } else { parsed(answer) }
    }

    async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        patience: Patience<'_>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let body = serde_json::to_vec(body).map_err(Failure::Garbled)?;
        self.call(&Method::POST, path, body.into(), patience).await
    }

    async fn call(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        patience: Patience<'_>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        while let Some(connection) = self.usable() {
            match self.exchange(connection, self.request(method, path, &body)?, &patience).await {
                // The server had closed it before the request came: what is meant for it was not heard.
                Err(Failure::Broken(e)) if e.is_canceled() || e.is_incomplete_message() || e.is_closed() => {}
                other => return other,
            }
        }
        let connect = self.target.connect();
        let connection = match patience.hurry {
            None => connect.await,
            Some(hurry) => hurry.run_until_cancelled(connect).await.unwrap_or(Err(Failure::Hurried)),
        };
        self.exchange(connection?, self.request(method, path, &body)?, &patience).await
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        patience: &Patience<'_>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let socket = connection.hang_up_handle().map_err(NoConnection::Refused)?;
        let answer = {
            let mut exchange = std::pin::pin!(timeout(patience.limit, connection.exchange(request)));
            let hurried = async {
                match patience.hurry {
                    Some(hurry) => hurry.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut exchange => answer.unwrap_or(Err(Failure::Timeout(patience.limit)))?,
                () = hurried => {
                    end_our_side(&socket);
                    let last_word = timeout(LAST_WORD_WITHIN, exchange).await;
                    return last_word.ok().and_then(Result::ok).unwrap_or(Err(Failure::Hurried));
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

    /// The last one used first; those that the server has closed are dropped on the way.
    fn usable(&self) -> Option<Connection> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find(Connection::is_usable)
    }

    fn request(&self, method: &Method, path: &str, body: &Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let invalid = |e: hyper::http::Error| Failure::from(NoConnection::Refused(std::io::Error::other(e)));
        let mut request = Request::builder()
            .method(method)
            .uri(self.target.path(path))
            .header(HOST, self.target.authority())
            .header(USER_AGENT, concat!("queuectl/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(invalid)?;
        if let Some(path) = &self.token_file {
            // Read each time: a Secret is renewed under a running worker.
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
}

fn parsed<T: DeserializeOwned>((status, body): (StatusCode, Bytes)) -> Result<T, Failure> {
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(Failure::Garbled);
    }
    let Refusal { error, message } = serde_json::from_slice(&body).unwrap_or_default();
    let message = if message.is_empty() { "the server refused".to_owned() } else { message };
    Err(Failure::Refused { status: status.as_u16(), error, message })
}
