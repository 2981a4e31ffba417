//! Server-sent events: first every queue once, then each queue that changes.

use super::Doors;
use super::queues::QueueObject;
use super::request::Query;
use super::tokens::Right;
use crate::engine::contract::QueueView;
use crate::service::Engine;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use kit::http::error_answer::ErrorAnswer;
use kit::http::events::{Source, TooMany};
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The shortest interval between updates: quick enough for a person, and cheap enough for a busy queue.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Limit on streams: each examines every queue when anything changes, and too many would delay the workers.
pub const STREAMS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    queue: Option<Box<str>>,
}

pub async fn events(
    State(doors): State<Doors>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, Right::Read)?;
    if let Some(queue) = &query.queue {
        doors.engine.queue(queue).await?;
    }
    let mut changes = doors.engine.changes();
    changes.mark_changed();
    let follower = Follower {
        engine: doors.engine.clone(),
        queue: query.queue,
        changes,
        drain: doors.drain.clone(),
        seen: BTreeMap::new(),
        due: VecDeque::new(),
    };
    doors.streams.tell(follower).map_err(|TooMany(open)| {
        let message = format!("{open} event streams are open already; try again later");
        ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    })
}

struct Follower {
    engine: Engine,
    queue: Option<Box<str>>,
    changes: watch::Receiver<u64>,
    drain: CancellationToken,
    /// The queues as the client last received them.
    seen: BTreeMap<Box<str>, QueueView>,
    /// Events that are not sent yet: name and data.
    due: VecDeque<(&'static str, String)>,
}

impl Source for Follower {
    async fn next(&mut self) -> Option<(&'static str, String)> {
        loop {
            if let Some(event) = self.due.pop_front() {
                return Some(event);
            }
            if !self.seen.is_empty() {
                tokio::time::sleep(AT_MOST_EVERY).await;
            }
            let (drain, changes) = (self.drain.clone(), &mut self.changes);
            drain.run_until_cancelled(changes.changed()).await?.ok()?;
            self.look().await?;
        }
    }
}

impl Follower {
    /// Compares the queues with those last sent, and adds an event for each that differs. The age of the
    /// oldest item does not count.
    async fn look(&mut self) -> Option<()> {
        let queues = self.engine.queues().await.ok()?;
        let wanted = |view: &QueueView| self.queue.as_ref().is_none_or(|name| *name == view.name);
        let now: BTreeMap<_, _> =
            queues.into_iter().filter(wanted).map(|view| (view.name.clone(), view)).collect();
        for gone in self.seen.keys().filter(|name| !now.contains_key(*name)) {
            let data = serde_json::json!({ "name": gone }).to_string();
            self.due.push_back(("deleted", data));
        }
        for (name, view) in &now {
            let same =
                |old: &QueueView| QueueView { oldest_ready_ms: view.oldest_ready_ms, ..old.clone() } == *view;
            if !self.seen.get(name).is_some_and(same) {
                let data = serde_json::to_string(&QueueObject::from(view.clone())).ok()?;
                self.due.push_back(("queue", data));
            }
        }
        self.seen = now;
        Some(())
    }
}
