//! The last fifteen minutes of all queues together, for the page.

use super::refusal::Problem;
use super::tokens::Right;
use super::{Doors, json};
use crate::engine::item::State as ItemState;
use crate::service::Engine;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use kit::page::history::{History, INTERVAL};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Four counters, then four levels: pushed, leases, acked, failed; ready, leased, delayed, dead.
pub type QueueHistory = History<8>;

#[derive(Serialize)]
struct Past {
    interval_ms: u128,
    /// Age in milliseconds, then the figures; oldest first, the last row is the present.
    rows: Vec<Vec<u64>>,
}

pub fn begin(engine: &Engine) -> Arc<QueueHistory> {
    Arc::new(History::new(Instant::now(), figures(engine)))
}

pub async fn history(State(doors): State<Doors>, headers: HeaderMap) -> Result<Response, Problem> {
    doors.permit(&headers, Right::Read)?;
    let mut rows = doors.history.rows(Instant::now());
    rows.push([&[0], &figures(&doors.engine)[..]].concat());
    Ok(json(StatusCode::OK, &Past { interval_ms: INTERVAL.as_millis(), rows }))
}

/// Samples after changes, at most once per interval: an idle server sleeps.
pub async fn record(engine: Engine, history: Arc<QueueHistory>, drain: CancellationToken) {
    let mut changes = engine.changes();
    while let Some(Ok(())) = drain.run_until_cancelled(changes.changed()).await {
        history.tick(Instant::now(), || figures(&engine));
        tokio::time::sleep(INTERVAL).await;
        history.tick(Instant::now(), || figures(&engine));
    }
}

fn figures(engine: &Engine) -> [u64; 8] {
    let mut sums = [0; 8];
    for queue in engine.figures().0 {
        let counters = &queue.counters;
        let levels = [ItemState::Ready, ItemState::Leased, ItemState::Delayed, ItemState::Dead];
        let counts = [counters.pushed, counters.leases, counters.acked, counters.nacked + counters.expired];
        let all = counts.into_iter().chain(levels.map(|state| queue.tally(state)));
        for (sum, figure) in sums.iter_mut().zip(all) {
            *sum += figure;
        }
    }
    sums
}
