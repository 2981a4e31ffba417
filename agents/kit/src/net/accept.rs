//! Accepts connections: takes a permit first, checks the allow-list afterwards, and pauses on accept errors.

use crate::net::allow::AllowList;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The pause when descriptors or memory run out. The kernel keeps the connection waiting; an immediate retry
/// burns CPU.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// A listener with its two bounds: the number of connections at once, and the allowed peers.
#[derive(Debug)]
pub struct Gate {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    allow: watch::Receiver<AllowList>,
    /// True if the last accept failed.
    failing: AtomicBool,
    crowded: watch::Sender<bool>,
}

/// Notifies connections that all places are taken, so that idle ones can give theirs up.
#[derive(Clone, Debug)]
pub struct Crowd(watch::Receiver<bool>);

impl Crowd {
    /// Returns a crowd that is never full, for a connection that came through no gate.
    pub fn never() -> Crowd {
        Crowd(watch::channel(false).1)
    }

    /// Resolves when no place is free, or at once if none is free already.
    pub async fn is_full(&mut self) {
        if self.0.wait_for(|crowded| *crowded).await.is_err() {
            // The gate is closed: no connection waits for a place any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The result of an accept.
#[derive(Debug)]
pub enum Arrival {
    /// A connection and its permit; dropping the permit frees its place.
    Admitted(TcpStream, SocketAddr, OwnedSemaphorePermit),
    /// A peer outside the allow-list; it was reset.
    Refused(SocketAddr),
    /// The system could not accept, and the gate paused. `news` is true for the first failure of a series.
    /// Logging each of them, twenty a second, would fill the disk.
    Failed { error: io::Error, news: bool },
}

impl Gate {
    pub fn new(listener: TcpListener, permits: Arc<Semaphore>, allow: watch::Receiver<AllowList>) -> Gate {
        Gate { listener, permits, allow, failing: AtomicBool::new(false), crowded: watch::Sender::new(false) }
    }

    /// Returns a crowd to be watched by the connections that came through this gate.
    pub fn crowd(&self) -> Crowd {
        Crowd(self.crowded.subscribe())
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return permit;
        }
        self.crowded.send_replace(true);
        // The semaphore is never closed, so this cannot fail. If it did, the gate would stop accepting.
        let Ok(permit) = self.permits.clone().acquire_owned().await else { std::future::pending().await };
        self.crowded.send_replace(false);
        permit
    }

    /// Waits for a free place first, so that connections beyond the bound stay in the kernel's queue.
    pub async fn next(&self) -> Arrival {
        let permit = self.place().await;
        let accepted = self.listener.accept().await;
        let failed_before = self.failing.swap(accepted.is_err(), Ordering::Relaxed);
        match accepted {
            Ok((stream, peer)) if self.allow.borrow().permits(peer.ip()) => {
                Arrival::Admitted(stream, peer, permit)
            }
            Ok((stream, peer)) => {
                let _ = reset_on_close(&stream);
                Arrival::Refused(peer)
            }
            Err(error) => {
                // The peer gave up while it waited. No resource is exhausted, so continue at once.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
                Arrival::Failed { error, news: !failed_before }
            }
        }
    }
}

/// Makes any close of this socket, even by SIGKILL, a reset instead of an orderly end.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    linger(socket, 1)
}

/// Makes a close of this socket an orderly end again.
pub fn close_in_order(socket: &impl AsFd) -> io::Result<()> {
    linger(socket, 0)
}

fn linger(socket: &impl AsFd, on: i32) -> io::Result<()> {
    let value = nix::libc::linger { l_onoff: on, l_linger: 0 };
    setsockopt(&socket.as_fd(), sockopt::Linger, &value).map_err(io::Error::from)
}
