//! The data plane: one thread that accepts connections, takes their lines, and obeys orders from the control
//! side.

use crate::budget::Budget;
use crate::connection::{Ending, Limits, Origin, Shared, serve};
use crate::file::journal::Journal;
use crate::file::rotation::Policy;
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
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

/// Sync interval under `always` for connections that stay open: no receipt of theirs forces an earlier sync.
const SYNC_OPEN_CONNECTIONS_WITHIN: Duration = Duration::from_secs(1);

/// Everything that the data plane needs, checked and open.
#[derive(Debug)]
pub struct Plan {
    pub listeners: Vec<TcpListener>,
    pub journal: Journal,
    pub format: LineFormat,
    pub sync: SyncMode,
    pub connections_max: usize,
    pub held_bytes_max: usize,
    pub keepalive: Duration,
    /// True if each connection begins with the header of a proxy.
    pub proxy_protocol: bool,
    pub limits: watch::Receiver<Limits>,
    pub allow: watch::Receiver<AllowList>,
    pub tls: Tls,
    pub orders: mpsc::Receiver<Order>,
    /// Updated after each rotation with the number of the newest complete rotated file.
    pub newest_finished: watch::Sender<u64>,
    pub metrics: LogdMetrics,
    pub peers: Peers,
    pub context: Context,
}

/// Requests from the control side.
#[derive(Clone, Debug)]
pub enum Order {
    Reopen,
    Apply(Policy),
}

/// Runs until drained; must be called on a thread of its own.
pub fn run(plan: Plan) -> Result<(), Fatal> {
    let failed = |e: std::io::Error| Fatal::new(Exit::System, "cannot start the data plane").because(e);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_io().enable_time().build_local(LocalOptions::default()).map_err(failed)?;
    runtime.block_on(serve_all(plan))
}

async fn serve_all(plan: Plan) -> Result<(), Fatal> {
    let Context { stop, readiness, liveness, .. } = plan.context.clone();
    let intake = Rc::new(Intake::new(plan.journal, plan.metrics, readiness.clone(), plan.newest_finished));
    let shared = Shared {
        intake: intake.clone(),
        budget: Budget::new(plan.held_bytes_max, plan.connections_max),
        drain: stop.drain.clone(),
        abort: stop.abort.clone(),
        format: plan.format,
        sync_always: plan.sync == SyncMode::Always,
    };
    let door = Rc::new(Door {
        shared,
        limits: plan.limits,
        tls: plan.tls,
        keepalive: plan.keepalive,
        proxy_protocol: plan.proxy_protocol,
        peers: plan.peers,
    });
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(plan.connections_max));

    tokio::task::spawn_local(liveness.answer_for("data plane"));
    let writer = tokio::task::spawn_local({
        let intake = intake.clone();
        async move { intake.write_each_turn().await }
    });
    let syncer = tokio::task::spawn_local(sync_as_asked(intake.clone(), plan.sync));
    tokio::task::spawn_local(obey(plan.orders, intake.clone()));
    let mut gates = Vec::new();
    for listener in plan.listeners {
        let listener = listen::adopt(listener)?;
        // Linux copies the option to each connection: dying right after an accept must not look like an
        // orderly end either.
        let _ = reset_on_close(&listener);
        let gate = Gate::new(listener, permits.clone(), plan.allow.clone());
        gates.push(tokio::task::spawn_local(accept_all(gate, door.clone(), connections.clone())));
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
    if plan.sync != SyncMode::Never {
        let (unsynced, position) = intake.begin_sync();
        intake.end_sync(position, &unsynced.sync());
    }
    match intake.pending_bytes() {
        0 if intake.is_unnamed() => Err(Fatal::new(
            Exit::TryAgain,
            "the file was removed or moved away, and the lines in it may be lost with this process",
        )),
        0 => Ok(()),
        bytes => Err(Fatal::new(
            Exit::TryAgain,
            format!("the file did not take the last {bytes} bytes; their senders were given no receipt"),
        )),
    }
}

/// The state and settings that each new connection starts with.
#[derive(Debug)]
struct Door {
    shared: Shared,
    limits: watch::Receiver<Limits>,
    tls: Tls,
    keepalive: Duration,
    proxy_protocol: bool,
    peers: Peers,
}

async fn accept_all(gate: Gate, door: Rc<Door>, connections: TaskTracker) {
    let metrics = &door.shared.intake.metrics;
    while let Some(arrival) = door.shared.drain.run_until_cancelled(gate.next()).await {
        match arrival {
            Arrival::Admitted(stream, peer, permit) => {
                metrics.connections.inc();
                door.shared.intake.hurry();
                // From here on only a receipt closes this socket in order; a crash resets it.
                if reset_on_close(&stream).is_err() {
                    continue;
                }
                connections.spawn_local(door.clone().meet(stream, peer, permit));
            }
            Arrival::Refused(peer) => {
                metrics.refused.get_or_create(&Reason { reason: "not_allowed" }).inc();
                tracing::debug!(%peer, "peer outside --allow");
            }
            Arrival::Failed { error, news } => {
                metrics.accept_errors.inc();
                if news {
                    tracing::warn!(%error, "cannot accept a connection; it waits");
                }
            }
        }
    }
}

impl Door {
    async fn meet(
        self: Rc<Door>,
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
        tracing::debug!(%peer, ?ending, "connection ended");
        metrics.tick();
        metrics.connections_open.dec();
    }

    /// Serves a connection that a proxy passes on. The header comes before TLS and before any line.
    async fn serve_proxied(&self, mut stream: TcpStream, proxy: SocketAddr) -> (SocketAddr, Ending) {
        match proxy_header::read(&mut stream).await {
            Ok(named) => {
                let peer = named.unwrap_or(proxy);
                (peer, self.serve(stream, peer).await)
            }
            Err(error) => {
                tracing::debug!(%proxy, %error, "connection refused");
                (proxy, Ending::Reset("proxy_header"))
            }
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr) -> Ending {
        let limits = *self.limits.borrow();
        let tls = self.tls.borrow().clone();
        let origin = Origin { address: peer, volume: self.peers.meet(peer.ip()) };
        match tls {
            None => serve(stream, &origin, &self.shared, limits).await,
            Some(config) => match tls::accept(config, stream, peer).await {
                // Boxed: only TLS connections pay for its size.
                Some(stream) => Box::pin(serve(stream, &origin, &self.shared, limits)).await,
                None => Ending::Reset("tls"),
            },
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

/// Runs syncs as group commits: one sync serves all that wait, and the next group gathers while it runs.
async fn sync_as_asked(intake: Rc<Intake>, mode: SyncMode) {
    let within = match mode {
        SyncMode::Never => return,
        SyncMode::Always => SYNC_OPEN_CONNECTIONS_WITHIN,
        SyncMode::Within(interval) => interval,
    };
    loop {
        intake.sync_due(within).await;
        if !intake.owes_sync() {
            continue;
        }
        let (unsynced, position) = intake.begin_sync();
        let began = Instant::now();
        let result = tokio::task::spawn_blocking(move || unsynced.sync()).await;
        intake.metrics.sync_seconds.observe(began.elapsed().as_secs_f64());
        intake.end_sync(position, &result.unwrap_or_else(|e| Err(std::io::Error::other(e))));
    }
}

async fn obey(mut orders: mpsc::Receiver<Order>, intake: Rc<Intake>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Reopen => intake.reopen(),
            Order::Apply(policy) => intake.set_policy(policy),
        }
    }
}
