//! One connection, from its first byte to its receipt.

use crate::budget::{Budget, Holding};
use crate::framing::{Framing, RECEIPT_REQUEST};
use crate::intake::{Intake, Progress};
use crate::line_format::LineFormat;
use crate::peers::Volume;
use kit::net::accept::close_in_order;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Time that a line waits for memory before it is cut at its current length.
const MEMORY_WITHIN: Duration = Duration::from_secs(1);
/// Interval for checking if the peer of a blocked connection waits for a receipt.
const LOOK_FOR_END_EVERY: Duration = Duration::from_millis(200);
/// Silence after which a connection counts as finished while draining.
pub(crate) const QUIET_AFTER: Duration = Duration::from_secs(1);

/// State shared by all connections of this daemon.
#[derive(Clone, Debug)]
pub struct ConnectionContext {
    pub intake: Rc<Intake>,
    pub budget: Rc<Budget>,
    pub drain: CancellationToken,
    pub abort: CancellationToken,
    pub format: LineFormat,
    /// True if receipts wait for the disk.
    pub sync_always: bool,
}

/// Limits that may differ between connections, since they are reloaded live.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub line_bytes_max: usize,
    pub idle_timeout: Duration,
}

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct ConnectedPeer {
    pub address: SocketAddr,
    pub volume: Arc<Volume>,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is safe, and an orderly close has confirmed it to the peer.
    Receipt,
    /// The peer was reset, or will be when the socket is dropped: it cannot take this for a receipt.
    Reset(&'static str),
}

/// A stream over TCP that can be closed in order.
pub trait OverTcp: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Takes lines until the peer has no more, then gives the receipt. The socket was set to reset on close when
/// it was accepted. Every way out of this function except the last step is therefore a reset, even a crash.
pub async fn serve<S: OverTcp>(
    mut stream: S,
    connected: &ConnectedPeer,
    shared: &ConnectionContext,
    limits: ConnectionLimits,
) -> Ending {
    let failures_before = shared.intake.sync_failures();
    let mut framing = Framing::new(limits.line_bytes_max);
    let taken = take_all(&mut stream, connected, shared, limits, &mut framing).await;
    let requested = framing.receipt_requested();
    shared.intake.finish(&mut framing, shared.format, connected.address);
    shared.intake.skip_pause();
    let received_bytes = match taken {
        Ok(bytes) => bytes,
        Err(why) => return Ending::Reset(why),
    };
    let receipt = shared.intake.receipt(shared.sync_always, failures_before);
    match shared.abort.run_until_cancelled(receipt).await {
        Some(Ok(())) => {}
        Some(Err(_)) => return Ending::Reset("not_safe"),
        None => return Ending::Reset("aborted"),
    }
    let answer = requested.then(|| receipt_in_words(received_bytes));
    match shared.abort.run_until_cancelled(close_with_receipt(&mut stream, answer)).await {
        Some(Ok(())) => Ending::Receipt,
        Some(Err(_)) => Ending::Reset("peer_gone"),
        None => Ending::Reset("aborted"),
    }
}

/// Returns the receipt for a sender that requested a readable one: it states the bytes of payload covered.
fn receipt_in_words(received_bytes: u64) -> String {
    format!("LOGD-RECEIPT 1 {}\n", received_bytes - RECEIPT_REQUEST.len() as u64)
}

async fn close_with_receipt<S: OverTcp>(stream: &mut S, answer: Option<String>) -> io::Result<()> {
    if let Some(answer) = answer {
        stream.write_all(answer.as_bytes()).await?;
    }
    close_in_order(stream.tcp())?;
    // TLS sends its close_notify first; on a plain socket this is the half-close.
    stream.shutdown().await
}

/// Takes everything up to the end of the stream, and returns the number of bytes.
async fn take_all<S: OverTcp>(
    stream: &mut S,
    connected: &ConnectedPeer,
    shared: &ConnectionContext,
    limits: ConnectionLimits,
    framing: &mut Framing,
) -> Result<u64, &'static str> {
    let ConnectionContext { intake, drain, abort, format, .. } = shared;
    let peer = connected.address;
    let mut holding = Holding::new(shared.budget.clone());
    let mut drained = std::pin::pin!(drain.cancelled());
    let mut draining = false;
    let mut received_bytes = 0;
    loop {
        if intake.is_blocked() {
            wait_for_room(stream.tcp(), shared).await?;
        }
        if holding.available() <= framing.held_bytes() {
            wait_for_memory(shared, &mut holding, framing, peer).await;
        }
        let read = poll_fn(|context| {
            // If no line ends in this read, all of it must be held: read no more than may be held.
            let at_most = holding.available().saturating_sub(framing.held_bytes());
            // The disk or the memory may have filled while this connection waited for its next bytes.
            if intake.is_blocked() || at_most == 0 {
                return Poll::Ready(Ok(Progress::Bytes(0)));
            }
            intake.poll_take(context, stream, at_most, framing, *format, peer)
        });
        let progress = if draining {
            tokio::select! {
                biased;
                progress = tokio::time::timeout(QUIET_AFTER, read) => progress.map_err(|_| "draining")?,
                () = abort.cancelled() => return Err("aborted"),
            }
        } else {
            let idle = async {
                match limits.idle_timeout {
                    Duration::ZERO => std::future::pending().await,
                    timeout => tokio::time::sleep(timeout).await,
                }
            };
            tokio::select! {
                biased;
                progress = read => progress,
                () = &mut drained => { draining = true; continue }
                () = idle => return Err("idle"),
            }
        };
        match progress {
            Ok(Progress::Bytes(bytes)) => {
                received_bytes += bytes as u64;
                connected.volume.add(bytes);
            }
            Ok(Progress::End) => return Ok(received_bytes),
            Err(e) => return Err(lost(&e, framing.is_between_lines())),
        }
        draining = draining || drain.is_cancelled();
        holding.set(framing.held_bytes());
        // One read per iteration for each connection: a flood does not keep the others waiting.
        tokio::task::yield_now().await;
    }
}

/// Waits while the file accepts no lines: the kernel's buffers push back on the sender. A half-closed peer
/// waits for a receipt, which is refused while its lines may be in no file.
async fn wait_for_room(
    tcp: &TcpStream,
    ConnectionContext { intake, abort, .. }: &ConnectionContext,
) -> Result<(), &'static str> {
    let refused = async {
        loop {
            intake.unnamed().await;
            if has_half_closed(tcp).await {
                return;
            }
            tokio::time::sleep(LOOK_FOR_END_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        () = abort.cancelled() => Err("aborted"),
        () = intake.room() => Ok(()),
        () = refused => Err("not_safe"),
    }
}

/// True if the peer has sent its end, even if unread bytes precede it.
async fn has_half_closed(tcp: &TcpStream) -> bool {
    tokio::select! {
        biased;
        ready = tcp.ready(Interest::READABLE) => ready.is_ok_and(Ready::is_read_closed),
        () = std::future::ready(()) => false,
    }
}

/// Pushes back on a sender of long lines while their memory is in use. A line that waits in vain is cut,
/// since the connections that hold the memory may be waiting for each other.
async fn wait_for_memory(
    shared: &ConnectionContext,
    holding: &mut Holding,
    framing: &mut Framing,
    peer: SocketAddr,
) {
    let room = async {
        while holding.available() <= framing.held_bytes() {
            shared.budget.freed().await;
        }
    };
    if tokio::time::timeout(MEMORY_WITHIN, room).await.is_err() {
        shared.intake.split(framing, shared.format, peer);
        holding.set(framing.held_bytes());
    }
}

fn lost(error: &io::Error, between_lines: bool) -> &'static str {
    match error.kind() {
        // TLS without its close_notify: somebody may have cut the stream short. Some senders never send it,
        // such as syslog-ng.
        io::ErrorKind::UnexpectedEof if between_lines => "no_close_notify",
        io::ErrorKind::UnexpectedEof => "cut_short",
        io::ErrorKind::InvalidData => "tls",
        _ => "peer_gone",
    }
}
