//! The data plane: one thread that accepts connections, takes their lines, and applies requests from the
//! control side.

use crate::budget::Budget;
use crate::connection::{ConnectedPeer, ConnectionContext, ConnectionLimits, Ending, QUIET_AFTER, serve};
use crate::file::appender::Appender;
use crate::file::rotation::RotationPolicy;
use crate::intake::Intake;
use crate::line_format::LineFormat;
use crate::metrics::{LogdMetrics, Reason};
use crate::peers::Peers;
use crate::proxy_header;
use crate::settings::SyncMode;
use kit::daemon::Context;
use kit::exit::{Exit, Fatal};
use kit::net::accept::{Arrival, Gate, reset_on_close};
use kit::net::allow::AllowList;
use kit::net::listen;
use kit::net::tls::{self, Tls};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

/// Everything that the data plane needs, checked and open.
#[derive(Debug)]
pub struct DataPlane {
    pub listeners: Vec<TcpListener>,
    pub appender: Appender,
    pub format: LineFormat,
    pub sync: SyncMode,
    pub connections_max: usize,
    pub held_bytes_max: usize,
    pub keepalive: Duration,
    /// True if each connection begins with the header of a proxy.
    pub proxy_protocol: bool,
    pub limits: watch::Receiver<ConnectionLimits>,
    pub allow: watch::Receiver<AllowList>,
    pub tls: Tls,
    pub requests: mpsc::Receiver<FileRequest>,
    /// Updated after each rotation with the number of the newest complete rotated file.
    pub newest_finished: watch::Sender<u64>,
    pub metrics: LogdMetrics,
    pub peers: Peers,
    pub context: Context,
}

/// Requests from the control side.
#[derive(Clone, Debug)]
pub enum FileRequest {
    Reopen,
    Apply(RotationPolicy),
}

/// Runs until drained; must be called on a thread of its own.
pub fn run(plane: DataPlane) -> Result<(), Fatal> {
    let failed = |e: std::io::Error| Fatal::new(Exit::System, "cannot start the data plane").because(e);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_io().enable_time().build_local(LocalOptions::default()).map_err(failed)?;
    runtime.block_on(serve_all(plane))
}

async fn serve_all(plane: DataPlane) -> Result<(), Fatal> {
    let Context { stop, readiness, liveness, .. } = plane.context.clone();
    let intake =
        Rc::new(Intake::new(plane.appender, plane.metrics, readiness.clone(), plane.newest_finished));
    let shared = ConnectionContext {
        intake: intake.clone(),
        budget: Budget::new(plane.held_bytes_max, plane.connections_max),
        drain: stop.drain.clone(),
        abort: stop.abort.clone(),
        format: plane.format,
        sync_always: plane.sync == SyncMode::Always,
    };
    let setup = Rc::new(ConnectionSetup {
        shared,
        limits: plane.limits,
        tls: plane.tls,
        keepalive: plane.keepalive,
        proxy_protocol: plane.proxy_protocol,
        peers: plane.peers,
    });
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(plane.connections_max));

    tokio::task::spawn_local(liveness.answer_for("data plane"));
    let writer = tokio::task::spawn_local({
        let intake = intake.clone();
        async move { intake.write_each_turn().await }
    });
    let syncer = tokio::task::spawn_local({
        let (intake, within) = (intake.clone(), plane.sync.within());
        async move {
            if let Some(within) = within {
                intake.sync_when_due(within).await;
            }
        }
    });
    tokio::task::spawn_local(apply_requests(plane.requests, intake.clone()));
    let mut gates = Vec::new();
    for listener in plane.listeners {
        let listener = listen::adopt(listener)?;
        // Linux copies the option to each accepted connection. So even a crash right after an accept does not
        // look like an orderly end.
        let _ = reset_on_close(&listener);
        let gate = Gate::new(listener, permits.clone(), plane.allow.clone());
        gates.push(tokio::task::spawn_local(accept_all(gate, setup.clone(), connections.clone())));
    }
    readiness.clear("starting");

    stop.drain.cancelled().await;
    for gate in gates {
        let _ = gate.await;
    }
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = stop.abort.cancelled() => {}
    }
    writer.abort();
    syncer.abort();
    intake.write_out().await;
    if plane.sync != SyncMode::Never {
        intake.sync_now();
    }
    match intake.pending_bytes() {
        0 if intake.is_unnamed() => Err(Fatal::new(
            Exit::TryAgain,
            "the file was removed or moved away, and the lines in it may be lost with this process",
        )),
        0 => Ok(()),
        bytes => Err(Fatal::new(
            Exit::TryAgain,
            format!("the last {bytes} bytes could not be written to the file; their senders got no receipt"),
        )),
    }
}

/// The state and settings that each new connection starts with.
#[derive(Debug)]
struct ConnectionSetup {
    shared: ConnectionContext,
    limits: watch::Receiver<ConnectionLimits>,
    tls: Tls,
    keepalive: Duration,
    proxy_protocol: bool,
    peers: Peers,
}

async fn accept_all(gate: Gate, setup: Rc<ConnectionSetup>, connections: TaskTracker) {
    let metrics = &setup.shared.intake.metrics;
    while let Some(arrival) = setup.shared.drain.run_until_cancelled(gate.next()).await {
        match arrival {
            Arrival::Admitted(stream, peer, permit) => {
                metrics.connections.inc();
                setup.shared.intake.skip_pause();
                // From here on only a receipt closes this socket in order; a crash resets it.
                if reset_on_close(&stream).is_err() {
                    continue;
                }
                connections.spawn_local(setup.clone().handle(stream, peer, permit));
            }
            Arrival::Refused(peer) => {
                metrics.refused.get_or_create(&Reason { reason: "not_allowed" }).inc();
                tracing::debug!(event = "peer_refused", %peer, "refused a peer outside --allow");
            }
            Arrival::Failed { error, news } => {
                metrics.accept_errors.inc();
                if news {
                    tracing::warn!(event = "accept_failed", %error, "cannot accept a connection; it waits");
                }
            }
        }
    }
}

impl ConnectionSetup {
    async fn handle(
        self: Rc<ConnectionSetup>,
        stream: TcpStream,
        accepted_from: SocketAddr,
        _permit: OwnedSemaphorePermit,
    ) {
        let metrics = &self.shared.intake.metrics;
        metrics.tick();
        metrics.connections_open.inc();
        keep_alive(&stream, self.keepalive);
        let (peer, ending) = if self.proxy_protocol {
            // Boxed: only proxied connections pay for its size.
            Box::pin(self.serve_proxied(stream, accepted_from)).await
        } else {
            (accepted_from, self.serve(stream, accepted_from).await)
        };
        match ending {
            Ending::Receipt => metrics.receipts.inc(),
            Ending::Reset(reason) => metrics.resets.get_or_create(&Reason { reason }).inc(),
        };
        tracing::debug!(event = "connection_ended", %peer, ?ending, "the connection ended");
        metrics.tick();
        metrics.connections_open.dec();
    }

    /// Serves a connection that a proxy passes on. The header comes before TLS and before any line.
    async fn serve_proxied(&self, mut stream: TcpStream, proxy: SocketAddr) -> (SocketAddr, Ending) {
        let header = match self.before_lines(proxy_header::read(&mut stream)).await {
            Ok(header) => header,
            Err(ending) => return (proxy, ending),
        };
        match header {
            Ok(named) => {
                let peer = named.unwrap_or(proxy);
                (peer, self.serve(stream, peer).await)
            }
            Err(error) => {
                tracing::debug!(
                    event = "proxy_header_rejected",
                    %proxy,
                    %error,
                    "refused a connection without a valid PROXY header"
                );
                (proxy, Ending::Reset("proxy_header"))
            }
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) -> Ending {
        let limits = *self.limits.borrow();
        let tls = self.tls.borrow().clone();
        let connected = ConnectedPeer { address: peer, volume: self.peers.connected(peer.ip()) };
        match tls {
            None => serve(stream, &connected, &self.shared, limits).await,
            // Boxed: only TLS connections pay for the size of handshake and stream.
            Some(config) => match Box::pin(self.before_lines(tls::accept(config, stream, peer))).await {
                Ok(Some(stream)) => Box::pin(serve(stream, &connected, &self.shared, limits)).await,
                Ok(None) => Ending::Reset("tls"),
                Err(ending) => ending,
            },
        }
    }

    /// Waits for what precedes a connection's first line. While draining, a silent peer is not waited for.
    async fn before_lines<T>(&self, opening: impl Future<Output = T>) -> Result<T, Ending> {
        let ConnectionContext { drain, abort, .. } = &self.shared;
        let silence = async {
            drain.cancelled().await;
            tokio::time::sleep(QUIET_AFTER).await;
        };
        tokio::select! {
            biased;
            opened = opening => Ok(opened),
            () = abort.cancelled() => Err(Ending::Reset("aborted")),
            () = silence => Err(Ending::Reset("draining")),
        }
    }
}

fn keep_alive(stream: &TcpStream, after: Duration) {
    let Ok(seconds @ 1..) = u32::try_from(after.as_secs()) else { return };
    // Best effort: without keepalive a dead peer is only found later.
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &seconds);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &(seconds.div_ceil(4)));
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &4);
}

async fn apply_requests(mut requests: mpsc::Receiver<FileRequest>, intake: Rc<Intake>) {
    while let Some(request) = requests.recv().await {
        match request {
            FileRequest::Reopen => intake.reopen(),
            FileRequest::Apply(policy) => intake.set_policy(policy),
        }
    }
}
