//! Requests of a client to the HTTP server of another agent: connections, tokens, and errors with a way out.

use crate::client::{Channel, ConnectError, Server};
use crate::exit::{Exit, Fatal};
use crate::net::tls::ClientFiles;
use crate::terminal;
use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, HOST, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The time for an answer's head, and for each whole answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The bound on an answer that is kept in memory.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// The length of the part of a foreign answer that messages show.
const EXCERPT_CHARS_MAX: usize = 60;

/// The file of public authorities, in Debian, Alpine and the images built on them.
const PUBLIC_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The names that requests and messages use.
#[derive(Clone, Copy, Debug)]
pub struct CallNames {
    /// The client, such as `kvctl/0.1.0`.
    pub user_agent: &'static str,
    /// The server, such as `kvd`.
    pub server: &'static str,
    /// The variable that names the server's URL, too.
    pub variable: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    /// Another program listens there: a web server, a proxy without a route, another daemon.
    #[error("this server is not {server}: it answered with {answer}; check --server and ${variable}")]
    Foreign { server: &'static str, variable: &'static str, answer: String },
    #[error("{}", refusal(*.status, .error, .message))]
    Refused { status: u16, error: String, message: String },
    #[error("cannot read the token file {0}: {1}")]
    Token(String, std::io::Error),
}

/// Formats a refusal. One by the server has a message and a word; one by a proxy in front of it may have
/// neither.
fn refusal(status: u16, error: &str, message: &str) -> String {
    let message = if message.is_empty() { "the server refused" } else { message };
    let space = if error.is_empty() { "" } else { " " };
    format!("{message} ({status}{space}{error})")
}

impl CallError {
    /// True if the same request may succeed later: the fault is with the server or the way to it.
    pub fn may_pass(&self) -> bool {
        match self {
            CallError::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            CallError::Foreign { .. } | CallError::TooLong(_) => false,
            _ => true,
        }
    }

    /// The `error` field of the answer, which programs may compare.
    pub fn word(&self) -> &str {
        match self {
            CallError::Refused { error, .. } => error,
            _ => "",
        }
    }

    /// Ends the process with this error as the cause.
    pub fn fatal(self, what: impl Into<String>) -> Fatal {
        let exit = match &self {
            CallError::Refused { status: 401 | 403, .. } => Exit::Config,
            error if error.may_pass() => Exit::TryAgain,
            _ => Exit::Failure,
        };
        Fatal::new(exit, what).because(self)
    }
}

/// A server's address, parsed from its URL.
#[derive(Clone, Debug)]
pub struct ServerOrigin {
    server: Server,
    /// The path in front of all others, without a slash at its end.
    prefix: String,
    authority: String,
}

impl ServerOrigin {
    /// Parses a URL such as `http://kvd:8002`. Its path is put in front of all others.
    pub fn parse(url: &str, files: &ClientFiles) -> Result<ServerOrigin, Fatal> {
        let bad = |why: &str| {
            let example = if url.contains('/') || url.is_empty() { "HOST:PORT" } else { url };
            let message = format!("{url:?} is no URL such as http://{example}: {why} (see --server)");
            Fatal::new(Exit::Usage, message)
        };
        let uri: Uri = url.parse().map_err(|_| bad("it cannot be parsed"))?;
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("its scheme must be http or https")),
        };
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(bad("user names and queries have no meaning here (see --token-file)"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let files = if is_secure { trusting(files)? } else { ClientFiles::default() };
        let server = Server::new(host, port, &files)?;
        Ok(ServerOrigin { server, prefix, authority: authority.to_string() })
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let (channel, _) = self.server.connect(CONNECT_WITHIN, |_| Ok(())).await?;
        match channel {
            Channel::Plain(stream) => handshake(stream).await,
            Channel::Tls(stream) => handshake(*stream).await,
        }
    }
}

/// Adds the public authorities, unless a file names others.
fn trusting(files: &ClientFiles) -> Result<ClientFiles, Fatal> {
    let mut files = files.clone();
    if files.tls_ca.is_none() {
        if !Path::new(PUBLIC_CA).exists() {
            return Err(Fatal::new(Exit::Usage, "https needs --tls-ca FILE"));
        }
        files.tls_ca = Some(PUBLIC_CA.into());
    }
    Ok(files)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, CallError> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
    // The task ends with its sender, which also reports errors.
    tokio::spawn(connection);
    Ok(sender)
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
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    sender: SendRequest<Full<Bytes>>,
}

impl OpenReply {
    /// Waits for the next piece of the body; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(bytes) = frame.map_err(CallError::Broken)?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    async fn whole(self) -> Result<(Reply, SendRequest<Full<Bytes>>), CallError> {
        let OpenReply { status, headers, body, sender } = self;
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return CallError::TooLong(ANSWER_BYTES_MAX);
            }
            match error.downcast::<hyper::Error>() {
                Ok(error) => CallError::Broken(*error),
                Err(_) => CallError::TooLong(ANSWER_BYTES_MAX),
            }
        })?;
        Ok((Reply { status, headers, body: body.to_bytes() }, sender))
    }
}

/// Sends requests to one server, and keeps a connection for the next one.
#[derive(Debug)]
pub struct Caller {
    origin: ServerOrigin,
    names: CallNames,
    token_file: Option<PathBuf>,
    idle: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
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
        let reply = self.call_any(call).await?;
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
        let opened = timeout(ANSWER_WITHIN, self.open(call)).await;
        let opened = opened.unwrap_or(Err(CallError::Timeout(ANSWER_WITHIN)))?;
        if is_refusal(opened.status) {
            let (reply, _) = opened.whole().await?;
            return Err(self.refusal(&reply));
        }
        Ok(opened)
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
        self.exchange(self.origin.connect().await?, call).await
    }

    async fn exchange(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        call: &HttpCall<'_>,
    ) -> Result<OpenReply, CallError> {
        sender.ready().await.map_err(CallError::Broken)?;
        match sender.send_request(self.request(call)?).await {
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

    fn request(&self, call: &HttpCall<'_>) -> Result<Request<Full<Bytes>>, CallError> {
        let invalid = |e: axum::http::Error| ConnectError::Refused(std::io::Error::other(e));
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.origin.prefix, call.path))
            .header(HOST, self.origin.authority())
            .header(USER_AGENT, self.names.user_agent)
            .body(Full::new(call.body.clone()))
            .map_err(invalid)?;
        for (name, value) in &call.headers {
            request.headers_mut().append(name, value.clone());
        }
        if let Some(path) = &self.token_file {
            // Read for each request, since a Secret is renewed while a client runs.
            let failed = |e| CallError::Token(path.display().to_string(), e);
            let token = std::fs::read_to_string(path).map_err(failed)?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|e| failed(std::io::Error::other(e)))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    fn idle(&self) -> MutexGuard<'_, Option<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Distinguishes the server's refusals from those of another program that listens there.
    fn refusal(&self, reply: &Reply) -> CallError {
        let ErrorBody { error, message } = serde_json::from_slice(&reply.body).unwrap_or_default();
        if error.is_empty() && !said_by_proxies(reply.status) {
            return self.not_the_server(reply.status, &reply.body);
        }
        CallError::Refused { status: reply.status.as_u16(), error, message }
    }

    /// The error for an answer that the server never gives.
    pub fn not_the_server(&self, status: StatusCode, body: &[u8]) -> CallError {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS_MAX)]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = terminal::excerpt(&text, EXCERPT_CHARS_MAX);
        let said = if text.is_empty() { String::new() } else { format!(" and \"{text}\"") };
        self.foreign(format!("{}{said}", status.as_u16()))
    }

    fn foreign(&self, answer: String) -> CallError {
        let CallNames { server, variable, .. } = self.names;
        CallError::Foreign { server, variable, answer }
    }
}

fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// Statuses that a proxy in front of the server sends in its own words: the server is away, the token is
/// refused, or a bound of the proxy is reached.
fn said_by_proxies(status: StatusCode) -> bool {
    match status.as_u16() {
        401 | 403 | 408 | 413 | 429 => true,
        // A web server that does not know the request at all answers with these two.
        501 | 505 => false,
        500.. => true,
        _ => false,
    }
}
