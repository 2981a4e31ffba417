//! Requests, answers and refusals between the doors and the engine.
//!
//! An engine on another machine could answer them, too. No transaction spans several queues, nothing refers
//! to the engine's memory, and there is no order between queues. Every answer may take as long as a network
//! does.

use super::attempts::Attempt;
use super::counters::Counters;
use super::item::{ItemId, ItemState, Token};
use super::policy::{Policy, check_name};
use super::queue::{Queue, Verdict};
use super::usage::Usage;
use serde::Deserialize;
use std::time::Duration;

/// Memory of an item beyond its body; the bench measures it.
pub const ITEM_OVERHEAD_BYTES: u64 = 96;

/// The reason why an engine refuses a request; the doors map it to status codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("{}", no_such_queue(.0))]
    NoSuchQueue(String),
    #[error("queue {0:?} holds no item {1}")]
    NoSuchItem(String, ItemId),
    #[error("queue {0:?} is sealed; unseal it to push more")]
    Sealed(String),
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    NoSpace(String),
    #[error("the memory for items, {bytes_max} bytes, is used up")]
    NoMemory { bytes_max: u64 },
    #[error("there are {0} queues already")]
    TooManyQueues(usize),
    #[error(
        "there are {queues} queues already: their records at the start of each log file may take at most \
         {bytes_max} bytes, a quarter of the file"
    )]
    TooMuchOfQueues { queues: usize, bytes_max: u64 },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
}

fn no_such_queue(name: &str) -> String {
    match check_name(name) {
        Ok(()) => format!("there is no queue {name:?}; a push or PUT /v1/queues/{name} makes it"),
        Err(rule) => format!("{name:?} is not a valid queue name: {rule}"),
    }
}

/// An item to be pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewItem {
    pub body: Box<[u8]>,
    pub key: Option<Box<str>>,
    pub content_type: Option<Box<str>>,
    pub delay_ms: u64,
}

/// The server's limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub queues_max: usize,
    /// Limit on the checkpoint at the beginning of each log segment, which has the state of all queues.
    pub checkpoint_bytes_max: u64,
    pub memory_bytes_max: u64,
    /// True if bodies above the memory limit may be kept on the disk only.
    pub spills: bool,
    /// Limit on the bodies in one answer; a single longer body is still sent.
    pub answer_bytes_max: u64,
}

impl Limits {
    /// Refuses items that would exceed the memory limit.
    pub fn check_memory(&self, usage: &Usage, items: u64, bytes: u64) -> Result<(), EngineError> {
        let overhead = usage.items.saturating_add(items).saturating_mul(ITEM_OVERHEAD_BYTES);
        let bodies = if self.spills { 0 } else { usage.memory_bytes.saturating_add(bytes) };
        if overhead.saturating_add(bodies) <= self.memory_bytes_max {
            return Ok(());
        }
        Err(EngineError::NoMemory { bytes_max: self.memory_bytes_max })
    }
}

/// The state of the queue that ends a wait for an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    #[default]
    Drained,
    Empty,
    Sealed,
    Forever,
}

impl Until {
    pub fn is_reached(self, queue: &Queue) -> bool {
        let drained = queue.verdict() == Verdict::Drained;
        match self {
            Until::Drained => drained,
            Until::Empty => {
                (queue.held || queue.sealed)
                    && queue.tally(ItemState::Ready) + queue.tally(ItemState::Delayed) == 0
            }
            Until::Sealed => drained && queue.sealed,
            Until::Forever => false,
        }
    }
}

/// A lease request, with the settlements of earlier leases.
#[derive(Clone, Debug, Default)]
pub struct LeaseRequest {
    pub max: usize,
    pub wait: Duration,
    pub lease_ms: Option<u64>,
    pub until: Until,
    pub worker: Option<Box<str>>,
    /// True if the leases end with this process: set by doors that see when a client disconnects.
    pub bound: bool,
    pub settlements: Vec<Settlement>,
}

/// A request to end or extend one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub id: ItemId,
    pub token: Token,
    pub action: SettleAction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleAction {
    Ack,
    Nack { delay_ms: Option<u64>, reason: Option<Box<str>>, release: bool },
    Extend { lease_ms: Option<u64> },
}

impl SettleAction {
    /// Returns the item to its earlier state, as if it had not been leased: no worker got it.
    pub const RELEASE: SettleAction = SettleAction::Nack { delay_ms: None, reason: None, release: true };
}

/// The result of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Done,
    Extended(u64),
    /// The item was nacked after its last attempt.
    Dead,
    /// The lease had ended before; nothing was changed.
    Lost,
}

/// An item as a worker gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub id: ItemId,
    pub token: Token,
    pub attempt: u32,
    pub pushed_ms: u64,
    pub lease_ms: u64,
    pub key: Option<Box<str>>,
    pub content_type: Option<Box<str>>,
    pub body: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    pub items: Vec<Leased>,
    /// True if the state named by `until` is reached and no item was leased.
    pub done: bool,
    pub verdict: Verdict,
    pub sealed: bool,
    pub paused: bool,
    pub ready: u64,
    pub delayed: u64,
    pub leased: u64,
    pub failed: u64,
    pub results: Vec<Settled>,
}

/// A queue's figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    pub name: Box<str>,
    pub verdict: Verdict,
    pub sealed: bool,
    pub paused: bool,
    pub tallies: [u64; 4],
    pub failed: u64,
    pub bytes: u64,
    pub oldest_ready_ms: Option<u64>,
    pub counters: Counters,
    pub waiting: u64,
    pub policy: Policy,
}

impl QueueView {
    pub fn tally(&self, state: ItemState) -> u64 {
        self.tallies.get(usize::from(state.number())).copied().unwrap_or_default()
    }

    pub fn backlog(&self) -> u64 {
        self.tally(ItemState::Ready) + self.tally(ItemState::Delayed) + self.tally(ItemState::Leased)
    }
}

/// An item as it is shown to readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemView {
    pub id: ItemId,
    pub state: ItemState,
    pub attempts: u32,
    pub pushed_ms: u64,
    pub key: Option<Box<str>>,
    pub content_type: Option<Box<str>>,
    /// The time at which the item is ready, or its lease expires.
    pub due_ms: Option<u64>,
    pub worker: Option<Box<str>>,
    pub reason: Option<Box<str>>,
    pub body: Box<[u8]>,
    /// The last attempts, oldest first. Empty in a list of items.
    pub history: Vec<Attempt>,
}

/// Selects the items to show.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub state: Option<ItemState>,
    pub limit: usize,
    pub after: Option<ItemId>,
    /// Show only the item with this key.
    pub key: Option<Box<str>>,
    /// Show only items with this text in their body or key.
    pub text: Option<Box<str>>,
}

/// Some of the requested items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    pub items: Vec<ItemView>,
    /// Items after this one were not examined; `None` if all were.
    pub next: Option<ItemId>,
}

/// The engine's own figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineView {
    pub durability: &'static str,
    pub memory_bytes: u64,
    pub memory_bytes_max: u64,
    pub log_bytes: u64,
}
