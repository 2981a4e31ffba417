//! Server-sent events: each queue as it is, then each that changes.

use super::Doors;
use super::queues::QueueObject;
use super::refusal::Problem;
use super::request::Query;
use super::tokens::Right;
use crate::engine::contract::{Engine, QueueView};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

/// Fast enough for eyes, slow enough for a busy queue.
const AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// Below the idle time after which proxies cut connections.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Each stream looks at every queue when anything changes, so that many of them would keep the workers waiting.
pub const STREAMS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    queue: Option<Box<str>>,
}

pub async fn events<E: Engine>(
    State(doors): State<Doors<E>>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    doors.permit(&headers, Right::Read)?;
    if let Some(queue) = &which.queue {
        doors.engine.queue(queue).await?;
    }
    let Ok(permit) = doors.streams.clone().try_acquire_owned() else {
        let message = format!("{STREAMS_MAX} event streams are open already; try again later");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message));
    };
    let mut changes = doors.engine.changes();
    changes.mark_changed();
    let follower = Follower {
        engine: doors.engine.clone(),
        queue: which.queue,
        changes,
        drain: doors.drain.clone(),
        seen: BTreeMap::new(),
        due: VecDeque::new(),
        _permit: permit,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

struct Follower<E> {
    engine: E,
    queue: Option<Box<str>>,
    changes: watch::Receiver<u64>,
    drain: CancellationToken,
    /// What was told last.
    seen: BTreeMap<Box<str>, QueueView>,
    due: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

impl<E: Engine> Follower<E> {
    async fn next(&mut self) -> Option<Event> {
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

    async fn look(&mut self) -> Option<()> {
        let queues = self.engine.queues().await.ok()?;
        let wanted = |view: &QueueView| self.queue.as_ref().is_none_or(|name| *name == view.name);
        let now: BTreeMap<_, _> =
            queues.into_iter().filter(wanted).map(|view| (view.name.clone(), view)).collect();
        for gone in self.seen.keys().filter(|name| !now.contains_key(*name)) {
            let data = serde_json::json!({ "name": gone }).to_string();
            self.due.push_back(Event::default().event("deleted").data(data));
        }
        for (name, view) in &now {
            let same =
                |old: &QueueView| QueueView { oldest_ready_ms: view.oldest_ready_ms, ..old.clone() } == *view;
            if !self.seen.get(name).is_some_and(same) {
                let data = serde_json::to_string(&QueueObject::from(view.clone())).ok()?;
                self.due.push_back(Event::default().event("queue").data(data));
            }
        }
        self.seen = now;
        Some(())
    }
}
