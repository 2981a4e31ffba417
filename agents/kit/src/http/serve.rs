//! Serves HTTP/1: bounded connections, a timeout for slow headers, and a shutdown that waits only for
//! requests under way, not for idle connections.

use super::head_timer::HeadTimer;
use super::head_wait::{HEADERS_WITHIN, HeadWait, Received, Waited};
use super::prefixed::PrefixedStream;
use super::write_timeout::WriteTimeout;
use crate::net::accept::{Arrival, Crowd, Gate};
use crate::net::tls::{self, Tls};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use httparse::{EMPTY_HEADER, Status};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

/// The largest head that is read here. Longer ones are left to hyper, which has its own limit.
const HEAD_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 32;

/// The timeout for a client to read some of its answer.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// The peer's address, an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Answers requests: a router, or a fast path that precedes one.
pub trait Answer: Clone + Send + Sync + 'static {
    fn answer(self, request: Request, peer: Peer) -> impl Future<Output = Response> + Send;

    /// Serves the first requests of a connection on a fast path without hyper. Returns `None` when the
    /// connection has ended, else the bytes that were read but not answered, for hyper.
    fn serve_first<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: &mut S,
        mut wait: HeadWait,
        _drain: &CancellationToken,
    ) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send {
        async move {
            let mut received = Vec::new();
            let waited = wait.next(stream, &mut received, is_received::<()>).await?;
            Ok(matches!(waited, Waited::ForHyper).then_some(received))
        }
    }
}

/// Waits for a whole head, which is for hyper.
fn is_received<T>(bytes: &[u8]) -> Received<T> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    match httparse::Request::new(&mut headers).parse(bytes) {
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => Received::Part { whole_head: false },
        _ => Received::ForHyper,
    }
}

impl Answer for Router {
    fn answer(mut self, mut request: Request, peer: Peer) -> impl Future<Output = Response> + Send {
        request.extensions_mut().insert(peer);
        let answer = self.call(request);
        async move { answer.await.unwrap_or_else(|never| match never {}) }
    }
}

/// Serves until `drain`, then finishes the requests under way until `abort` at the latest.
pub async fn serve(gate: Gate, router: Router, drain: CancellationToken, abort: CancellationToken) {
    serve_tls(gate, router, watch::channel(None).1, drain, abort).await;
}

/// Serves like `serve`, over TLS where that is configured.
pub async fn serve_tls(
    gate: Gate,
    answer: impl Answer,
    tls: Tls,
    drain: CancellationToken,
    abort: CancellationToken,
) {
    let connections = TaskTracker::new();
    while let Some(arrival) = drain.run_until_cancelled(gate.next()).await {
        let (stream, peer, permit) = match arrival {
            Arrival::Admitted(stream, peer, permit) => (stream, peer, permit),
            Arrival::Refused(peer) => {
                tracing::debug!(
                    event = "peer_refused",
                    %peer,
                    "refused an HTTP peer outside the allowed networks"
                );
                continue;
            }
            Arrival::Failed { error, news } => {
                if news {
                    tracing::warn!(event = "accept_failed", %error, "cannot accept HTTP connections");
                }
                continue;
            }
        };
        // Answers are small and complete, so the kernel should not delay them either.
        let _ = stream.set_nodelay(true);
        let (answer, drain, abort, tls) =
            (answer.clone(), drain.clone(), abort.clone(), tls.borrow().clone());
        let crowd = gate.crowd();
        connections.spawn(async move {
            let _permit = permit;
            let Some(config) = tls else {
                return serve_one(stream, peer, answer, crowd, drain, abort).await;
            };
            if let Some(stream) = tls::accept(config, stream, peer).await {
                serve_one(stream, peer, answer, crowd, drain, abort).await;
            }
        });
    }
    drop(gate);
    connections.close();
    connections.wait().await;
}

/// Serves one connection, plain or TLS.
pub async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    answer: impl Answer,
    crowd: Crowd,
    drain: CancellationToken,
    abort: CancellationToken,
) {
    let mut stream = WriteTimeout::new(stream, READ_WITHIN);
    let unread = tokio::select! {
        biased;
        unread = answer.serve_first(&mut stream, HeadWait::new(crowd, &drain), &drain) => unread,
        () = abort.cancelled() => return,
    };
    let stream = match unread {
        Ok(Some(unread)) => PrefixedStream::new(unread, stream),
        Ok(None) => return,
        Err(error) => {
            return tracing::debug!(
                event = "connection_ended",
                %peer,
                %error,
                "the HTTP connection ended"
            );
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone().answer(request.map(Body::new), Peer(peer));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(HeadTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let result = tokio::select! {
        // A request that came before the drain is read first: hyper drops it otherwise, unanswered.
        biased;
        result = &mut connection => result,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = &mut connection => result,
                () = abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(event = "connection_ended", %peer, %error, "the HTTP connection ended");
    }
}
