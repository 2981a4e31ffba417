//! Records the figures of the last fifteen minutes for the page, of each queue and of all together.

use super::request::Query;
use super::tokens::Right;
use super::{Doors, json};
use crate::engine::contract::{EngineError, QueueView};
use crate::engine::item::ItemState;
use crate::service::Engine;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use kit::http::error_answer::ErrorAnswer;
use kit::page::history::{INTERVAL, Samples, row};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Limit on the queues with a history of their own, as many as the page shows: at most a megabyte. The queue
/// that has been quiet for the longest time loses its history first.
const QUEUES_MAX: usize = 100;

/// Four counters, then four levels: pushed, leases, acked, failed; ready, leased, delayed, dead.
type QueueSample = [u64; 8];

type Queues = BTreeMap<Box<str>, QueueSample>;

/// The samples of all queues.
///
/// A queue is sampled only when its figures change: with the figures after the change, and before that with
/// the old figures, unless the last sample has them.
#[derive(Debug)]
pub struct QueueHistory {
    /// The figures of the last look. They held until `unchanged_until`.
    seen: Queues,
    unchanged_until: Instant,
    /// A queue that was seen and has no samples has not changed since then.
    complete_from: Instant,
    total: Samples<8>,
    queues: BTreeMap<Box<str>, Samples<8>>,
}

impl QueueHistory {
    fn new(now: Instant, seen: Queues) -> QueueHistory {
        let (total, queues) = (Samples::default(), BTreeMap::new());
        QueueHistory { seen, unchanged_until: now, complete_from: now, total, queues }
    }

    /// Samples the queues whose figures changed since the last look.
    fn look(&mut self, now: Instant, after: Queues) {
        let until = self.unchanged_until;
        let add = |samples: &mut Samples<8>, before: QueueSample, after: QueueSample| {
            if samples.last_at().is_none_or(|last| last < until) {
                samples.push(until, before);
            }
            samples.push(now, after);
        };
        self.queues.retain(|name, _| after.contains_key(name));
        for (name, figures) in &after {
            // A new queue began with nothing.
            let before = self.seen.get(name).copied().unwrap_or_default();
            if *figures != before {
                add(self.queues.entry(name.clone()).or_default(), before, *figures);
            }
        }
        let (before, sums) = (sum(&self.seen), sum(&after));
        if sums != before {
            add(&mut self.total, before, sums);
        }
        (self.seen, self.unchanged_until) = (after, now);
        self.drop_quiet_queues(now);
    }

    fn drop_quiet_queues(&mut self, now: Instant) {
        while self.queues.len() > QUEUES_MAX {
            let quiet = self.queues.iter().min_by_key(|(_, samples)| samples.last_at());
            let Some(name) = quiet.map(|(name, _)| name.clone()) else { return };
            self.queues.remove(&name);
            self.complete_from = now;
        }
    }

    /// Returns the samples of a queue, or of all queues together, and the present figures.
    fn rows(&self, now: Instant, queue: Option<&str>, present: QueueSample) -> Vec<Vec<u64>> {
        let (samples, seen) = match queue {
            None => (Some(&self.total), Some(sum(&self.seen))),
            Some(name) => (self.queues.get(name), self.seen.get(name).copied()),
        };
        let mut rows = samples.map(|samples| samples.rows(now)).unwrap_or_default();
        if rows.is_empty() && seen.is_some() {
            rows.push(row(now, self.complete_from, &seen.unwrap_or_default()));
        }
        rows.push(row(now, self.unchanged_until, &seen.unwrap_or_default()));
        rows.push(row(now, now, &present));
        rows
    }
}

pub type SharedHistory = Arc<Mutex<QueueHistory>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    queue: Option<Box<str>>,
}

#[derive(Serialize)]
struct Past {
    interval_ms: u128,
    /// Age in milliseconds, then the figures; oldest first, the last row is the present.
    rows: Vec<Vec<u64>>,
}

pub fn begin(engine: &Engine) -> SharedHistory {
    Arc::new(Mutex::new(QueueHistory::new(Instant::now(), figures(engine))))
}

pub async fn history(
    State(doors): State<Doors>,
    Query(query): Query<HistoryQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, Right::Read)?;
    let name = query.queue.as_deref();
    let present = figures(&doors.engine);
    let present = match name {
        None => sum(&present),
        Some(name) => *present.get(name).ok_or_else(|| EngineError::NoSuchQueue(name.to_owned()))?,
    };
    let history = doors.history.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = history.rows(Instant::now(), name, present);
    Ok(json(StatusCode::OK, &Past { interval_ms: INTERVAL.as_millis(), rows }))
}

/// Samples after changes, at most once per interval: an idle server sleeps.
pub async fn record(engine: Engine, history: SharedHistory, drain: CancellationToken) {
    let mut changes = engine.changes();
    let lock = || history.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(Ok(())) = drain.run_until_cancelled(changes.changed()).await {
        lock().unchanged_until = Instant::now();
        tokio::time::sleep(INTERVAL).await;
        changes.mark_unchanged();
        let after = figures(&engine);
        lock().look(Instant::now(), after);
    }
}

fn figures(engine: &Engine) -> Queues {
    engine.figures().0.into_iter().map(|queue| (queue.name.clone(), figures_of(&queue))).collect()
}

fn figures_of(queue: &QueueView) -> QueueSample {
    let counters = &queue.counters;
    let failed = counters.nacked.saturating_add(counters.expired);
    let [ready, leased, delayed, dead] =
        [ItemState::Ready, ItemState::Leased, ItemState::Delayed, ItemState::Dead]
            .map(|state| queue.tally(state));
    [counters.pushed, counters.leases, counters.acked, failed, ready, leased, delayed, dead]
}

fn sum(queues: &Queues) -> QueueSample {
    queues.values().fold(QueueSample::default(), |mut sums, figures| {
        for (sum, figure) in sums.iter_mut().zip(figures) {
            *sum = sum.saturating_add(*figure);
        }
        sums
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn with(queues: &[(&str, u64)]) -> Queues {
        let figures = |ready: u64| [ready, 0, 0, 0, ready, 0, 0, 0];
        queues.iter().map(|(name, ready)| ((*name).into(), figures(*ready))).collect()
    }

    /// Each row's age in seconds, and its ready items.
    fn ready(history: &QueueHistory, now: Instant, queue: Option<&str>, present: u64) -> Vec<(u64, u64)> {
        let rows = history.rows(now, queue, [present, 0, 0, 0, present, 0, 0, 0]);
        rows.iter().map(|row| (row[0] / 1000, row[5])).collect()
    }

    #[test]
    fn queue_has_figures_around_each_change() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut history = QueueHistory::new(start, with(&[("quiet", 7), ("busy", 0)]));
        for (second, busy) in [(100, 5), (300, 9)] {
            history.unchanged_until = at(second);
            history.look(at(second + 15), with(&[("quiet", 7), ("busy", busy), ("new", 1)]));
        }
        let busy = [(300, 0), (285, 5), (100, 5), (85, 9), (85, 9), (0, 9)];
        assert_eq!(ready(&history, at(400), Some("busy"), 9), busy);
        assert_eq!(ready(&history, at(400), Some("quiet"), 7), [(400, 7), (85, 7), (0, 7)]);
        assert_eq!(ready(&history, at(400), Some("new"), 1)[..2], [(300, 0), (285, 1)]);
        let total = [(300, 7), (285, 13), (100, 13), (85, 17), (85, 17), (0, 17)];
        assert_eq!(ready(&history, at(400), None, 17), total);
        // A change that was not sampled yet happened after the last sleep.
        history.unchanged_until = at(500);
        assert_eq!(ready(&history, at(505), Some("quiet"), 8), [(505, 7), (5, 7), (0, 8)]);
        assert_eq!(ready(&history, at(505), Some("just made"), 3), [(5, 0), (0, 3)]);
    }

    #[test]
    fn deleted_and_quiet_queues_are_dropped() {
        let start = Instant::now();
        let mut history = QueueHistory::new(start, Queues::new());
        let names: Vec<String> = (0..=QUEUES_MAX).map(|n| format!("q{n}")).collect();
        let first = [(names[7].as_str(), 1)];
        history.look(start + INTERVAL, with(&first));
        let all: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        history.look(start + INTERVAL * 2, with(&all));
        assert!(history.queues.len() == QUEUES_MAX && !history.queues.contains_key("q7"));
        assert_eq!(ready(&history, start + INTERVAL * 3, Some("q7"), 1), [(15, 1), (15, 1), (0, 1)]);
        history.look(start + INTERVAL * 3, Queues::new());
        assert!(history.queues.is_empty());
    }
}
