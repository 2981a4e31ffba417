//! The data plane: all doors, on one thread.

use crate::drain::Drain;
use crate::hot_keys::HotKeys;
use crate::http::backup::BACKUPS_MAX;
use crate::http::tokens::KeyTokens;
use crate::http::{self, DoorParts, Doors};
use crate::keyspace::Keyspace;
use crate::metrics::KvdMetrics;
use crate::settings::Serve;
use axum::Router;
use kit::admin::{self, Admin};
use kit::daemon::{Context, connections_within_limit};
use kit::exit::Fatal;
use kit::http::body::{BodyBudget, BodyLimit};
use kit::http::events::Streams;
use kit::net::accept::Gate;
use kit::net::allow::AllowList;
use kit::net::listen;
use kit::net::tls::Tls;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// The parts that the data plane uses. They are already checked and opened.
#[derive(Debug)]
pub struct DataPlane {
    pub http: TcpListener,
    pub allow: watch::Receiver<AllowList>,
    pub tls: Tls,
    pub tokens: watch::Receiver<KeyTokens>,
    pub keyspace: Keyspace,
    pub hot_keys: Arc<HotKeys>,
    pub drain: Drain,
    pub serve: Serve,
    pub metrics: KvdMetrics,
    pub context: Context,
}

/// Runs until the server is drained. Must be called on a thread of its own.
pub fn run(plane: DataPlane) -> Result<(), Fatal> {
    kit::daemon::runtime()?.block_on(serve(plane))
}

async fn serve(plane: DataPlane) -> Result<(), Fatal> {
    let Context { stop, readiness, liveness, .. } = plane.context.clone();
    tokio::spawn(liveness.answer_for("data plane"));
    let router = router(&plane);
    let connections_max = connections_within_limit(usize::from(plane.serve.max_connections), 1);
    let address = plane.http.local_addr().unwrap_or(plane.serve.http);
    let gate = Gate::new(listen::adopt(plane.http)?, Arc::new(Semaphore::new(connections_max)), plane.allow);
    tracing::info!(event = "listening", door = "http", %address, "serving HTTP");
    kit::net::browser_ports::warn_if_blocked("--http", address);
    let closing = stop.after_linger(plane.serve.linger);
    readiness.clear("starting");
    kit::http::serve_tls(gate, router, plane.tls, closing, stop.abort.clone()).await;
    Ok(())
}

/// Returns all routes: the doors, the probes, and the rest of the admin endpoint unless it has an address of
/// its own.
fn router(plane: &DataPlane) -> Router {
    let Context { stop, readiness, liveness, metrics, .. } = plane.context.clone();
    let admin = Admin { readiness, liveness, metrics, stop };
    let routes = if plane.serve.admin.is_some() { admin::probes(admin) } else { admin::router(admin) };
    http::router(doors(plane)).merge(routes)
}

/// Builds the state that all connections share.
fn doors(plane: &DataPlane) -> Doors {
    let serve = &plane.serve;
    let value_limit =
        BodyLimit { what: "a value", flag: "--max-value-bytes", bytes_max: serve.max_value_bytes };
    let batch_limit =
        BodyLimit { what: "a batch", flag: "--max-request-bytes", bytes_max: serve.max_request_bytes };
    let room = || BodyBudget::new(serve.bodies_bytes_max(), serve.max_request_bytes);
    Doors::from(DoorParts {
        keyspace: plane.keyspace.clone(),
        tokens: plane.tokens.clone(),
        drain: plane.drain.clone(),
        value_limit,
        batch_limit,
        room: room(),
        answers: room(),
        streams: Streams::at_most(usize::from(serve.max_watchers)),
        backups: Arc::new(Semaphore::new(BACKUPS_MAX)),
        hot_keys: plane.hot_keys.clone(),
        metrics: plane.metrics.clone(),
    })
}
