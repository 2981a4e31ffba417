//! Answers to read-only requests: a queue's figures, the items found by a search, the engine's own figures.

use super::{EngineState, Shared};
use crate::commit::tail::Tail;
use crate::engine::contract::{EngineError, EngineView, ItemView, Look, Looked, QueueView};
use crate::engine::core::{Core, Journal};
use crate::engine::item::{Item, ItemState};
use crate::engine::queue::Queue;
use memchr::memmem::Finder;
use std::borrow::Cow;

/// Limit on the items examined under one hold of the lock: some tens of microseconds.
const LOOKED_AT_ONCE: usize = 4096;
/// Limit on the bytes of bodies searched under one hold of the lock; the last body may exceed it.
const BYTES_AT_ONCE: u64 = 64 << 10;
/// Limits on the items, and on the bytes of bodies, that one request searches for a text.
const SEARCHED_ITEMS_MAX: usize = 100_000;
const SEARCHED_BYTES_MAX: u64 = 64 << 20;

impl Shared {
    pub(super) fn engine_view(&self, state: &EngineState) -> EngineView {
        EngineView {
            durability: state.tail.end().map_or("memory", |_| self.durability.name()),
            memory_bytes: state.core.usage.memory_bytes,
            memory_bytes_max: state.limits.memory_bytes_max,
            log_bytes: state.tail.log_bytes(),
        }
    }
}

pub(super) fn view(state: &EngineState, queue: &Queue) -> QueueView {
    let now_ms = state.clock.now_ms();
    QueueView {
        name: queue.name.clone(),
        verdict: queue.verdict(),
        sealed: queue.sealed,
        paused: queue.paused,
        tallies: ItemState::ALL.map(|item_state| queue.tally(item_state)),
        failed: queue.failed(),
        bytes: queue.body_bytes(),
        oldest_ready_ms: queue.oldest_ready_ms().map(|pushed_ms| now_ms.saturating_sub(pushed_ms)),
        counters: queue.counters,
        waiting: state.waiters.get(&queue.name).map_or(0, |waiters| waiters.len() as u64),
        policy: queue.policy.clone(),
    }
}

pub(super) fn view_of(state: &EngineState, name: &str) -> Result<QueueView, EngineError> {
    Ok(view(state, state.core.queue(name)?))
}

/// A search of a queue's items. It can be paused and resumed, so that a million items do not delay other
/// requests.
#[derive(Debug)]
pub(super) struct Search {
    look: Look,
    text: Option<Finder<'static>>,
    /// The last item that was examined.
    after: u64,
    /// The numbers of the items for the answer. Bodies are read at the end, so that a paused request holds
    /// none of them.
    found: Vec<u64>,
    found_bytes: u64,
    /// The number of items searched for the text so far.
    searched_items: usize,
    searched_bytes: u64,
}

/// The reason why a search stops.
enum StopReason {
    /// All items were examined.
    End,
    /// The answer is full, and there are more items.
    Full,
    /// The limit for one hold of the lock is reached: other requests come first.
    Pause,
}

impl Search {
    pub(super) fn new(look: Look) -> Search {
        Search {
            text: look.text.as_ref().map(|text| Finder::new(text.as_bytes()).into_owned()),
            after: look.after.map_or(0, |id| id.number),
            look,
            found: Vec::new(),
            found_bytes: 0,
            searched_items: 0,
            searched_bytes: 0,
        }
    }

    /// Continues the search under one hold of the lock. Returns the result once the search is complete.
    pub(super) fn go_on(
        &mut self,
        state: &mut EngineState,
        name: &str,
    ) -> Result<Option<Looked>, EngineError> {
        let next = match self.step(state, name)? {
            StopReason::Pause => return Ok(None),
            StopReason::Full => Some(state.core.id(self.after)),
            StopReason::End => None,
        };
        let EngineState { core, tail, clock, .. } = state;
        let queue = core.queue(name)?;
        let mut items = Vec::with_capacity(self.found.len());
        // An item may have changed since it was found.
        let found = self.found.iter().filter_map(|number| queue.items().get(*number));
        for item in found.filter(|item| self.is_in_state(item)) {
            items.push(item_view(core, clock.now_ms(), queue, item, tail.body(item)?));
        }
        Ok(Some(Looked { items, next }))
    }

    fn step(&mut self, state: &mut EngineState, name: &str) -> Result<StopReason, EngineError> {
        let (mut items, mut bytes) = (0, 0);
        let EngineState { core, tail, limits, clock, .. } = state;
        let queue = core.queue(name)?;
        let now_ms = clock.now_ms();
        let one = self
            .look
            .key
            .as_ref()
            .map(|key| queue.known(key, now_ms).and_then(|number| queue.items().get(number)));
        let from = self.after;
        let all = one.is_none().then(|| queue.items().iter_after(from)).into_iter().flatten();
        for item in one.flatten().into_iter().filter(|item| item.number > from).chain(all) {
            if self.found.len() == self.look.limit || self.is_exhausted() {
                return Ok(StopReason::Full);
            }
            if items == LOOKED_AT_ONCE || bytes > BYTES_AT_ONCE {
                return Ok(StopReason::Pause);
            }
            items += 1;
            if self.is_in_state(item) && self.has_text(item, tail, &mut bytes)? {
                let len = u64::from(item.len);
                if self.found_bytes + len > limits.answer_bytes_max && !self.found.is_empty() {
                    return Ok(StopReason::Full);
                }
                self.found_bytes += len;
                self.found.push(item.number);
            }
            self.after = item.number;
        }
        Ok(StopReason::End)
    }

    fn is_in_state(&self, item: &Item) -> bool {
        self.look.state.is_none_or(|wanted| wanted == item.state)
    }

    fn has_text(&mut self, item: &Item, tail: &mut Tail, bytes: &mut u64) -> Result<bool, EngineError> {
        let Some(text) = &self.text else { return Ok(true) };
        self.searched_items += 1;
        self.searched_bytes += u64::from(item.len);
        *bytes += u64::from(item.len);
        let is_in = |bytes: &[u8]| text.find(bytes).is_some();
        Ok(is_in(&tail.body(item)?) || item.key().is_some_and(|key| is_in(key.as_bytes())))
    }

    fn is_exhausted(&self) -> bool {
        self.searched_items >= SEARCHED_ITEMS_MAX || self.searched_bytes >= SEARCHED_BYTES_MAX
    }
}

pub(super) fn item_view(
    core: &Core,
    now_ms: u64,
    queue: &Queue,
    item: &Item,
    body: Cow<'_, [u8]>,
) -> ItemView {
    let when = queue.when(item.number);
    ItemView {
        id: core.id(item.number),
        state: item.state,
        attempts: item.attempts,
        pushed_ms: item.pushed_ms,
        key: item.key().map(Into::into),
        content_type: item.content_type().map(Into::into),
        due_ms: when.map(|when| when.at_ms.saturating_sub(now_ms)),
        worker: when.and_then(|when| when.worker.clone()),
        reason: item.reason().map(Into::into),
        body: body.into_owned().into(),
        history: Vec::new(),
    }
}
