//! Requests of a client to the HTTP server of another agent: connections, tokens, and errors with a way out.

mod call_error;
mod origin;
mod query;

pub use call_error::{CallError, describe};
pub use origin::ServerOrigin;
pub use query::query;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Sends requests over one connection.
pub type HttpSender = SendRequest<Full<Bytes>>;

/// The time for an answer's head, and for each whole answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The bound on an answer that is kept in memory.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// The names that requests and messages use.
#[derive(Clone, Copy, Debug)]
pub struct CallNames {
    /// The client, such as `kvctl/0.1.0`.
    pub user_agent: &'static str,
    /// The server, such as `kvd`.
    pub server: &'static str,
    /// The variable that names the server's URL if `--server` does not.
    pub variable: &'static str,
}

/// A request. Its path begins with a slash and is percent-encoded already.
#[derive(Clone, Debug)]
pub struct HttpCall<'a> {
    pub method: Method,
    pub path: &'a str,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl<'a> HttpCall<'a> {
    pub fn new(method: Method, path: &'a str) -> HttpCall<'a> {
        HttpCall { method, path, headers: Vec::new(), body: Bytes::new() }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct OpenReply {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    sender: HttpSender,
}

impl OpenReply {
    /// Waits up to `within` for the next piece of the body; `None` at its end.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Bytes>, CallError> {
        let piece = async {
            while let Some(frame) = self.body.frame().await {
                if let Ok(bytes) = frame.map_err(CallError::Broken)?.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Ok(None)
        };
        timeout(within, piece).await.unwrap_or(Err(CallError::Timeout(within)))
    }

    async fn whole(self) -> Result<(Reply, HttpSender), CallError> {
        let OpenReply { status, headers, body, sender } = self;
        Ok((Reply { status, headers, body: whole_body(body).await? }, sender))
    }
}

/// Receives the whole body of an answer.
pub async fn whole_body(body: Incoming) -> Result<Bytes, CallError> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
        match error.downcast::<hyper::Error>() {
            Ok(error) => CallError::Broken(*error),
            Err(_) => CallError::TooLong(ANSWER_BYTES_MAX),
        }
    })?;
    Ok(body.to_bytes())
}

/// Sends requests to one server, and keeps a connection for the next one.
#[derive(Debug)]
pub struct Caller {
    origin: ServerOrigin,
    names: CallNames,
    token_file: Option<PathBuf>,
    idle: Mutex<Option<HttpSender>>,
}

impl Caller {
    pub fn new(origin: ServerOrigin, names: CallNames, token_file: Option<PathBuf>) -> Caller {
        Caller { origin, names, token_file, idle: Mutex::default() }
    }

    pub fn server(&self) -> &str {
        self.origin.authority()
    }

    /// Returns the whole answer. A status of 400 or above is an error.
    pub async fn call(&self, call: &HttpCall<'_>) -> Result<Reply, CallError> {
        self.accepted(self.call_any(call).await?)
    }

    /// Returns the answer, unless its status is 400 or above.
    pub fn accepted(&self, reply: Reply) -> Result<Reply, CallError> {
        if is_refusal(reply.status) { Err(self.refusal(&reply)) } else { Ok(reply) }
    }

    /// Returns the whole answer, whatever its status is.
    pub async fn call_any(&self, call: &HttpCall<'_>) -> Result<Reply, CallError> {
        let whole = async {
            let (reply, sender) = self.open(call).await?.whole().await?;
            *self.idle() = Some(sender);
            Ok(reply)
        };
        timeout(ANSWER_WITHIN, whole).await.unwrap_or(Err(CallError::Timeout(ANSWER_WITHIN)))
    }

    /// Returns the answer once its head is there, for bodies that are long or never end.
    pub async fn stream(&self, call: &HttpCall<'_>) -> Result<OpenReply, CallError> {
        let opened = async {
            let opened = self.open(call).await?;
            if !is_refusal(opened.status) {
                return Ok(opened);
            }
            // A proxy may send a head with an error, and then stall.
            let (reply, _) = opened.whole().await?;
            Err(self.refusal(&reply))
        };
        timeout(ANSWER_WITHIN, opened).await.unwrap_or(Err(CallError::Timeout(ANSWER_WITHIN)))
    }

    async fn open(&self, call: &HttpCall<'_>) -> Result<OpenReply, CallError> {
        let idle = self.idle().take().filter(|sender| sender.is_ready() && !sender.is_closed());
        if let Some(sender) = idle {
            match self.exchange(sender, call).await {
                // The server had closed the idle connection, and has not seen the request.
                Err(CallError::Broken(e)) if e.is_canceled() || e.is_closed() => {}
                other => return other,
            }
        }
        let (sender, _) = self.origin.connect().await?;
        self.exchange(sender, call).await
    }

    async fn exchange(&self, mut sender: HttpSender, call: &HttpCall<'_>) -> Result<OpenReply, CallError> {
        let request = self.origin.request(call, self.names.user_agent, self.token_file.as_deref())?;
        sender.ready().await.map_err(CallError::Broken)?;
        match sender.send_request(request).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(OpenReply { status: head.status, headers: head.headers, body, sender })
            }
            Err(error) if error.is_parse() => {
                Err(self.foreign(format!("something other than HTTP ({error})")))
            }
            Err(error) => Err(CallError::Broken(error)),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<HttpSender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Distinguishes the server's refusals from those of another program that listens there.
    fn refusal(&self, reply: &Reply) -> CallError {
        let refused = CallError::refused(reply.status, &reply.body);
        refused.unwrap_or_else(|| self.not_the_server(reply.status, &reply.body))
    }

    /// The error for an answer that the server never gives.
    pub fn not_the_server(&self, status: StatusCode, body: &[u8]) -> CallError {
        self.foreign(describe(status, body))
    }

    fn foreign(&self, answer: String) -> CallError {
        CallError::Foreign { names: self.names, answer, was_server: false }
    }
}

fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}
