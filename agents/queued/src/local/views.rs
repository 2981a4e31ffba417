//! What those see who only look: queues, items, the engine's own figures.

use super::{Shared, State};
use crate::engine::contract::{EngineView, ItemView, Look, QueueView, Refusal};
use crate::engine::core::Journal;
use crate::engine::item::{Item, State as ItemState};
use crate::engine::queue::Queue;
use std::io;

/// Items that are looked at under one hold of the lock: some tens of microseconds.
const LOOKED_AT_ONCE: usize = 4096;

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
        failed: queue.failed(),
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

/// Looks at some of the items behind `after`; returns behind which to go on, if more may be wanted. A million items that
/// are not wanted hold up nobody.
pub(super) fn look_on(
    state: &mut State,
    name: &str,
    look: &Look,
    after: u64,
    seen: &mut Vec<ItemView>,
) -> Result<Option<u64>, Refusal> {
    let mut room =
        state.limits.answer_bytes_max.saturating_sub(seen.iter().map(|v| v.body.len() as u64).sum());
    let mut left = look.limit.saturating_sub(seen.len());
    let (mut wanted, mut next) = (Vec::new(), None);
    for (count, item) in state.core.queue(name)?.items().iter_after(after).take(LOOKED_AT_ONCE).enumerate() {
        if look.state.is_none_or(|state| state == item.state) {
            let is_first = seen.is_empty() && wanted.is_empty();
            if left == 0 || (u64::from(item.len) > room && !is_first) {
                break;
            }
            (left, room) = (left - 1, room.saturating_sub(item.len.into()));
            wanted.push(item.clone());
        }
        next = (count + 1 == LOOKED_AT_ONCE && left > 0).then_some(item.number);
    }
    for item in wanted {
        seen.push(item_view(state, name, &item)?);
    }
    Ok(next)
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
