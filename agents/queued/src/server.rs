//! The data plane: one thread with all doors. Another thread takes part in a request only while the log is
//! slow.

use crate::http::fast_path::FastPath;
use crate::http::history;
use crate::http::{self, Doors, Parts, tokens};
use crate::line::{self, LineDoor};
use crate::metrics::QueuedMetrics;
use crate::service::Engine;
use crate::settings::Serve;
use axum::Router;
use kit::admin::{self, Admin};
use kit::daemon::{Context, connections_within_limit};
use kit::exit::{Exit, Fatal};
use kit::http::events::Streams;
use kit::net::accept::Gate;
use kit::net::allow::AllowList;
use kit::net::listen;
use kit::net::tls::Tls;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// Everything that the data plane needs, already checked and opened.
#[derive(Debug)]
pub struct DataPlane {
    pub http: TcpListener,
    pub line: Option<TcpListener>,
    pub allow: watch::Receiver<AllowList>,
    pub tls: Tls,
    pub tokens: watch::Receiver<tokens::Tokens>,
    pub engine: Engine,
    pub serve: Serve,
    pub metrics: QueuedMetrics,
    pub context: Context,
}

/// Runs until it is drained. Must be called on a thread of its own.
pub fn run(plane: DataPlane) -> Result<(), Fatal> {
    kit::daemon::runtime()?.block_on(serve_all(plane))
}

async fn serve_all(plane: DataPlane) -> Result<(), Fatal> {
    let Context { stop, readiness, liveness, .. } = plane.context.clone();
    tokio::spawn(liveness.answer_for("data plane"));
    plane.engine.start();
    if let Some(first) = plane.serve.count_from {
        let counted = plane.engine.count_from(&plane.serve.line_queue, first).await;
        counted.map_err(|e| Fatal::new(Exit::Failure, "cannot make the queue count").because(e))?;
    }
    let doors = doors(&plane);
    tokio::spawn(history::record(plane.engine.clone(), doors.history.clone(), stop.drain.clone()));
    let fast_path = FastPath { router: router(&plane, doors.clone()), doors };
    let listeners = if plane.line.is_some() { 2 } else { 1 };
    let connections_max = connections_within_limit(usize::from(plane.serve.max_connections), listeners);
    let gate = |listener| -> Result<Gate, Fatal> {
        let permits = Arc::new(Semaphore::new(connections_max));
        Ok(Gate::new(listen::adopt(listener)?, permits, plane.allow.clone()))
    };
    tracing::info!(event = "listening", door = "http", address = address_of(&plane.http), "serving HTTP");
    if let Ok(address) = plane.http.local_addr() {
        kit::net::browser_ports::warn_if_blocked("--http", address);
    }
    let http =
        kit::http::serve_tls(gate(plane.http)?, fast_path, plane.tls, stop.drain.clone(), stop.abort.clone());
    let line = match plane.line {
        None => None,
        Some(listener) => {
            tracing::info!(
                event = "listening",
                door = "lines",
                address = address_of(&listener),
                queue = plane.serve.line_queue,
                "serving lines"
            );
            let door = LineDoor {
                engine: plane.engine,
                queue: plane.serve.line_queue,
                timeout: plane.serve.line_timeout,
                metrics: plane.metrics,
            };
            Some(line::serve(gate(listener)?, door, stop.drain.clone(), stop.abort.clone()))
        }
    };
    readiness.clear("starting");
    tokio::join!(http, async {
        if let Some(line) = line {
            line.await;
        }
    });
    Ok(())
}

/// Builds the state that all HTTP connections share.
fn doors(plane: &DataPlane) -> Doors {
    let serve = &plane.serve;
    let item_bytes_max = usize::try_from(serve.max_item_bytes).unwrap_or(usize::MAX);
    let request_bytes_max = usize::try_from(serve.max_request_bytes).unwrap_or(usize::MAX);
    let room = |bytes| kit::http::body::BodyBudget::new(bytes, request_bytes_max.max(item_bytes_max));
    Doors::from(Parts {
        engine: plane.engine.clone(),
        tokens: plane.tokens.clone(),
        item_bytes_max,
        request_bytes_max,
        room: room(serve.max_memory / 4),
        // Enough for more than a few readers, whatever the memory for items: a lease whose answer finds no
        // room is released.
        answers: room((serve.max_memory / 4).max(8 * serve.max_request_bytes)),
        streams: Streams::at_most(http::events::STREAMS_MAX),
        history: history::begin(&plane.engine),
        metrics: plane.metrics.clone(),
        drain: plane.context.stop.drain.clone(),
    })
}

/// Adds the admin endpoint, unless it has a port of its own. Probes are answered on both ports.
fn router(plane: &DataPlane, doors: Doors) -> Router {
    let Context { stop, readiness, liveness, metrics, .. } = plane.context.clone();
    let admin = Admin { readiness, liveness, metrics, stop };
    let routes = if plane.serve.admin.is_some() { admin::probes(admin) } else { admin::router(admin) };
    http::router(doors).merge(routes)
}

fn address_of(listener: &TcpListener) -> String {
    listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
}
