//! The line door: each connection gets one item as bare bytes, and is then closed.
//!
//! An item is acked only if the client has read it. TCP gives three signs:
//!
//! - an acknowledgement: the client's kernel has the bytes;
//! - a FIN: the client has closed in order;
//! - a reset: the client has closed with unread bytes, or was already gone.
//!
//! A FIN after ours, with all bytes acknowledged, means that the client has read to the end. A FIN before
//! ours only means that the client sends nothing more. Then the door waits until the bytes are acknowledged,
//! and a moment longer for a reset, before it sends its own FIN: no reset arrives once both sides have sent
//! one.

use crate::engine::contract::{EngineError, LeaseRequest, Leased, SettleAction, Settlement};
use crate::metrics::{OutcomeLabel, QueuedMetrics};
use crate::service::Engine;
use kit::net::accept::{Arrival, Gate, reset_on_close};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The wait for a reset from a half-closed client that did not read. The kernel closes the sockets of a
/// killed process at once, so a reset takes only one packet's trip.
const RESET_WITHIN: Duration = Duration::from_millis(20);
/// The first and the longest interval between checks for acknowledged bytes. The kernel reports no event.
const CHECK_INTERVAL_MIN: Duration = Duration::from_micros(500);
const CHECK_INTERVAL_MAX: Duration = Duration::from_millis(50);
/// A day: a lease ends with its connection, or when queued starts again, long before this limit.
const LEASE_MS: u64 = 86_400_000;

#[derive(Clone, Debug)]
pub struct LineDoor {
    pub engine: Engine,
    pub queue: String,
    pub timeout: Duration,
    pub metrics: QueuedMetrics,
}

/// Serves until `drain`, then finishes with the connected clients.
pub async fn serve(gate: Gate, door: LineDoor, drain: CancellationToken, abort: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some(arrival) = drain.run_until_cancelled(gate.next()).await {
        match arrival {
            Arrival::Admitted(stream, peer, permit) => {
                let (door, abort) = (door.clone(), abort.clone());
                connections.spawn(async move {
                    let _ = abort.run_until_cancelled(door.serve_connection(stream, peer, permit)).await;
                });
            }
            Arrival::Refused(peer) => {
                door.count("refused");
                tracing::debug!(event = "peer_refused", %peer, "refused a line peer outside --allow");
            }
            Arrival::Failed { error, news: true } => {
                tracing::warn!(event = "accept_failed", %error, "cannot accept a line connection; it waits");
            }
            Arrival::Failed { news: false, .. } => {}
        }
    }
    connections.close();
    connections.wait().await;
}

impl LineDoor {
    fn count(&self, outcome: &'static str) {
        self.metrics.line_connections.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    async fn serve_connection(&self, stream: TcpStream, peer: SocketAddr, _permit: OwnedSemaphorePermit) {
        let request =
            LeaseRequest { max: 1, lease_ms: Some(LEASE_MS), bound: true, ..LeaseRequest::default() };
        let item = match self.engine.lease(&self.queue, request).await {
            Ok(answer) => answer.items.into_iter().next(),
            Err(EngineError::NoSuchQueue(_)) => None,
            Err(error) => {
                tracing::warn!(event = "lease_failed", %error, "cannot lease an item for a line connection");
                self.count("failed");
                // The client must not mistake an error for an empty queue.
                let _ = reset_on_close(&stream);
                return;
            }
        };
        let Some(item) = item else { return self.count("empty") };
        let mut held = LeasedItem { door: self, item: Some(item) };
        let Some(body) = held.item.as_ref().map(|item| item.body.clone()) else { return };
        let taken = tokio::time::timeout(self.timeout, hand_over(stream, &body)).await;
        let taken = taken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match taken {
            Ok(()) => {
                held.settle(SettleAction::Ack).await;
                self.count("taken");
            }
            Err(error) => {
                tracing::debug!(
                    event = "item_returned",
                    %peer,
                    %error,
                    "the line client did not take its item: released it"
                );
                held.settle(SettleAction::RELEASE).await;
                self.count("returned");
            }
        }
    }
}

/// An item on its way to a client. It is released on drop, because the task that sends it may be cancelled.
struct LeasedItem<'a> {
    door: &'a LineDoor,
    item: Option<Leased>,
}

impl LeasedItem<'_> {
    async fn settle(&mut self, action: SettleAction) {
        let Some(item) = self.item.take() else { return };
        let settlement = Settlement { id: item.id, token: item.token, action };
        if let Err(error) = self.door.engine.settle(&self.door.queue, vec![settlement]).await {
            tracing::error!(
                event = "ack_failed",
                %error,
                "an item that was handed over may be delivered again"
            );
        }
    }
}

impl Drop for LeasedItem<'_> {
    fn drop(&mut self) {
        let Some(item) = self.item.take() else { return };
        let (engine, queue) = (self.door.engine.clone(), self.door.queue.clone());
        tokio::spawn(async move {
            let action = SettleAction::RELEASE;
            let _ = engine.settle(&queue, vec![Settlement { id: item.id, token: item.token, action }]).await;
        });
    }
}

/// Sends the item. Returns once the client has the bytes, as far as TCP can tell.
async fn hand_over(mut stream: TcpStream, body: &[u8]) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    // Read what the client sends: unread bytes would turn our close into a reset.
    let mut ended = tokio::select! {
        written = to.write_all(body) => { written?; false }
        ended = end_of(&mut from) => { ended?; true }
    };
    if ended {
        to.write_all(body).await?;
    }
    ended = ended || acknowledged_or_ended(&mut from, &to).await?;
    if !ended {
        to.shutdown().await?;
        return end_of(&mut from).await;
    }
    until_acknowledged(&to).await?;
    let reset = tokio::time::timeout(RESET_WITHIN, until_reset(&to)).await;
    if let Ok(error) = reset {
        return Err(error);
    }
    to.shutdown().await
}

/// Reads until the client's FIN.
async fn end_of(from: &mut ReadHalf<'_>) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while from.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// True if the client's FIN came before all bytes were acknowledged.
async fn acknowledged_or_ended(from: &mut ReadHalf<'_>, to: &WriteHalf<'_>) -> io::Result<bool> {
    tokio::select! {
        biased;
        ended = end_of(from) => ended.map(|()| true),
        acknowledged = until_acknowledged(to) => acknowledged.map(|()| false),
    }
}

async fn until_acknowledged(to: &WriteHalf<'_>) -> io::Result<()> {
    let mut pause = CHECK_INTERVAL_MIN;
    // After a reset, unacknowledged bytes stay unacknowledged: check for a reset first.
    while reset(to).is_none() {
        if unacknowledged_bytes(to.as_ref().as_raw_fd())? == 0 {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(CHECK_INTERVAL_MAX);
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

async fn until_reset(to: &WriteHalf<'_>) -> io::Error {
    loop {
        if let Some(error) = reset(to) {
            return error;
        }
        tokio::time::sleep(CHECK_INTERVAL_MIN * 4).await;
    }
}

fn reset(to: &WriteHalf<'_>) -> Option<io::Error> {
    to.as_ref().take_error().unwrap_or_else(Some)
}

nix::ioctl_read_bad!(
    /// SIOCOUTQ: bytes that were sent and not acknowledged yet.
    siocoutq, nix::libc::TIOCOUTQ, nix::libc::c_int
);

fn unacknowledged_bytes(socket: i32) -> io::Result<i32> {
    let mut bytes = 0;
    #[allow(unsafe_code, reason = "no crate in use wraps SIOCOUTQ")]
    // SAFETY: the descriptor belongs to a stream that outlives this call, and the request writes one int.
    unsafe { siocoutq(socket, &raw mut bytes) }?;
    Ok(bytes)
}
