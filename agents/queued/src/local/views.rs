//! What those see who only look: queues, items, the engine's own figures.

use super::{Shared, State};
use crate::engine::contract::{EngineView, ItemView, QueueView, Refusal};
use crate::engine::core::Journal;
use crate::engine::item::{Item, State as ItemState};
use crate::engine::queue::Queue;
use std::io;

impl Shared {
    pub(super) fn engine_view(&self, state: &mut State) -> EngineView {
        EngineView {
            durability: self.durability,
            memory_bytes: state.core.usage.memory_bytes,
            memory_bytes_max: state.limits.memory_bytes_max,
            log_bytes: state.disk_mut(|front| front.log_bytes()).unwrap_or(0),
        }
    }
}

pub(super) fn view(state: &State, queue: &Queue) -> QueueView {
    let now_ms = state.clock.now_ms();
    QueueView {
        name: queue.name.clone(),
        verdict: queue.verdict(),
        sealed: queue.sealed,
        tallies: ItemState::ALL.map(|item_state| queue.tally(item_state)),
        bytes: queue.body_bytes(),
        oldest_ready_ms: queue.oldest_ready_ms().map(|pushed_ms| now_ms.saturating_sub(pushed_ms)),
        counters: queue.counters,
        waiting: state.waiters.get(&queue.name).map_or(0, |waiters| waiters.len() as u64),
        policy: queue.policy.clone(),
    }
}

pub(super) fn view_of(state: &State, name: &str) -> Result<QueueView, Refusal> {
    Ok(view(state, state.core.queue(name)?))
}

/// An item with its body, wherever that is.
pub(super) fn item_view(state: &mut State, name: &str, item: &Item) -> Result<ItemView, Refusal> {
    let unreadable = |e: io::Error| Refusal::Unavailable(format!("the item's body cannot be read: {e}"));
    let body = match &item.body {
        Some(body) => body.clone(),
        None => state.log.read(item.place, item.len).map_err(unreadable)?,
    };
    let queue = state.core.queue(name)?;
    let when = queue.when(item.number);
    let now_ms = state.clock.now_ms();
    Ok(ItemView {
        id: state.core.id(item.number),
        state: item.state,
        attempts: item.attempts,
        pushed_ms: item.pushed_ms,
        key: item.key().map(Into::into),
        content_type: item.content_type().map(Into::into),
        due_ms: when.map(|when| when.at_ms.saturating_sub(now_ms)),
        worker: when.and_then(|when| when.worker.clone()),
        reason: item.reason().map(Into::into),
        body,
    })
}
