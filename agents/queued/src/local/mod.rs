//! The engine of one machine: the state machine, its log, and the waiting requests.

mod clock;
mod commands;
pub mod durable;
mod housekeeping;
mod presence;
mod turns;
mod views;
mod waiting;
mod writer;

use crate::engine::contract::{Limits, Refusal};
use crate::engine::core::{Core, Journal, Turn};
use crate::engine::item::Place;
use crate::engine::queue::Queue;
use crate::engine::record::Record;
use crate::log::directory::Directory;
use crate::log::front::Front;
use crate::metrics::QueuedMetrics;
use clock::Clock;
use kit::lifecycle::readiness::Readiness;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use waiting::{Waiter, serve_waiters};
use writer::Pen;

/// Maximum log bytes of a record beyond its texts and body.
const RECORD_BYTES: u64 = 96;

/// The state shared by the engine's threads.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The writer of the log, if there is a log.
    pen: OnceLock<Pen>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes the housekeeping.
    housework: Condvar,
    /// Notified when there may be room for pushes again.
    room: Notify,
    /// Wakes `keep_turns`: there is something to write after this iteration of the event loop, or there are
    /// answers to give.
    turn: Notify,
    /// Notified when something is due earlier than the timer expects.
    timer: Notify,
    changes: watch::Sender<u64>,
    closing: AtomicBool,
    /// True after an event in the data directory: the writer checks that the directory is still there.
    suspect: AtomicBool,
    /// The directory of a log on the disk.
    directory: OnceLock<Arc<Directory>>,
    /// Ends all waits when it is cancelled.
    drain: CancellationToken,
    readiness: Readiness,
    metrics: QueuedMetrics,
    durability: &'static str,
}

#[derive(Debug)]
struct State {
    core: Core,
    log: Log,
    limits: Limits,
    clock: Clock,
    waiters: HashMap<Box<str>, VecDeque<Waiter>>,
    next_waiter: u64,
    /// The time at which the timer wakes next.
    armed_ms: u64,
    /// True while the writer sleeps.
    writer_idle: bool,
    /// True while the housekeeping sleeps until something happens.
    housework_rests: bool,
    /// True while `keep_turns` runs.
    keeps_turns: bool,
    /// Answers that are durable now and that `keep_turns` is to give.
    answers: Vec<oneshot::Sender<()>>,
}

/// The destination of records.
#[derive(Debug)]
enum Log {
    Disk(Box<Front>),
    Memory,
}

impl Journal for Log {
    fn append(&mut self, record: &Record<'_>) -> Place {
        match self {
            Log::Disk(front) => front.append(record),
            Log::Memory => Place::default(),
        }
    }

    fn read(&mut self, place: Place, len: u32) -> io::Result<Box<[u8]>> {
        match self {
            Log::Disk(front) => front.read(place, len),
            Log::Memory => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Completes when an answer is as durable as the settings require.
type Ticket = Option<oneshot::Receiver<()>>;

impl State {
    fn disk_mut<R>(&mut self, act: impl FnOnce(&mut Front) -> R) -> Option<R> {
        match &mut self.log {
            Log::Disk(front) => Some(act(front)),
            Log::Memory => None,
        }
    }

    /// Carries out a command that appends about `bytes`, all of them in one group.
    fn turn<R>(&mut self, bytes: u64, act: impl FnOnce(&mut Core, &mut Turn<'_, Log>) -> R) -> R {
        if let Log::Disk(front) = &mut self.log
            && front.is_full_for(bytes)
        {
            front.begin_segment();
            self.checkpoint();
        }
        let mut turn = Turn { now_ms: self.clock.now_ms(), limits: &self.limits, journal: &mut self.log };
        let result = act(&mut self.core, &mut turn);
        let copied = self.core.take_copied();
        if self.spills_now() {
            for (queue, number, place) in copied {
                self.disk_mut(|front| front.evict_when_written(queue, number, place));
            }
        }
        result
    }

    /// True if further bodies must be evicted from memory once they are on the disk.
    fn spills_now(&self) -> bool {
        self.limits.spills && self.core.usage.memory_bytes > self.limits.memory_bytes_max
    }

    /// Repeats the state of every queue, so that the log can begin here.
    fn checkpoint(&mut self) {
        let began = self.disk_mut(|front| front.offset).unwrap_or_default();
        self.core.checkpoint(&mut self.log);
        self.disk_mut(|front| front.ends_after = front.offset + (front.offset - began));
    }

    fn ticket(&mut self) -> Ticket {
        self.disk_mut(Front::ticket).flatten()
    }
}

impl Shared {
    fn new(core: Core, log: Log, limits: Limits, durability: &'static str, around: Surroundings) -> Shared {
        let state = State {
            clock: Clock::start(core.latest_ms),
            core,
            log,
            limits,
            waiters: HashMap::new(),
            next_waiter: 0,
            armed_ms: u64::MAX,
            writer_idle: false,
            housework_rests: false,
            keeps_turns: false,
            answers: Vec::new(),
        };
        Shared {
            state: Mutex::new(state),
            pen: OnceLock::new(),
            work: Condvar::new(),
            housework: Condvar::new(),
            room: Notify::new(),
            turn: Notify::new(),
            timer: Notify::new(),
            changes: watch::Sender::new(0),
            closing: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            directory: OnceLock::new(),
            drain: around.drain,
            readiness: around.readiness,
            metrics: around.metrics,
            durability,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the writer to sleep until there is work.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.writer_idle = true;
        let mut state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.writer_idle = false;
        state
    }

    fn wait_timeout<'a>(&self, mut state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        state.writer_idle = true;
        let mut state = self.work.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0;
        state.writer_idle = false;
        state
    }

    /// Puts the housekeeping to sleep for at most this time.
    fn housework_timeout<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        self.housework.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Puts the housekeeping to sleep until something happens to a queue or to the log's files.
    fn housework_rest<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.housework_rests = true;
        let mut state = self.housework.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.housework_rests = false;
        state
    }

    /// Handles the consequences of a command: serves waiters in the same commit, and notifies the timer and
    /// the writer.
    fn follow_up(&self, state: &mut State) {
        let mut touched = state.core.take_touched();
        let changed = !touched.is_empty();
        touched.sort_unstable();
        touched.dedup();
        while let Some(number) = touched.pop() {
            let Some(queue) = state.core.queue_by_number(number) else { continue };
            if let Some(due_ms) = queue.next_due_ms()
                && due_ms < state.armed_ms
            {
                state.armed_ms = due_ms;
                self.timer.notify_one();
            }
            if !state.waiters.is_empty() {
                let name = queue.name.clone();
                serve_waiters(state, &name);
                // Leases to waiters touch the queue again, but make nothing ready.
                for again in state.core.take_touched() {
                    let due = state.core.queue_by_number(again).and_then(Queue::next_due_ms);
                    if let Some(due_ms) = due.filter(|due_ms| *due_ms < state.armed_ms) {
                        state.armed_ms = due_ms;
                        self.timer.notify_one();
                    }
                }
            }
        }
        if changed && self.changes.receiver_count() > 0 {
            self.changes.send_modify(|count| *count += 1);
        }
        if changed && state.housework_rests {
            state.housework_rests = false;
            self.housework.notify_all();
        }
        if state.writer_idle && state.disk_mut(|front| front.is_due()) == Some(true) {
            match state.keeps_turns {
                true => self.turn.notify_one(),
                false => self.wake_writer(state),
            }
        }
    }
}

async fn durable(ticket: Ticket) -> Result<(), Refusal> {
    match ticket {
        None => Ok(()),
        Some(ticket) => ticket.await.map_err(|_| Refusal::Unavailable("the log was given up".to_owned())),
    }
}

/// The engine's handle, held by the doors.
#[derive(Clone, Debug)]
pub struct Local(Arc<Shared>);

/// The environment of an engine, passed at its start.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub drain: CancellationToken,
    pub readiness: Readiness,
    pub metrics: QueuedMetrics,
}

impl Local {
    fn new(core: Core, log: Log, limits: Limits, durability: &'static str, around: Surroundings) -> Local {
        Local(Arc::new(Shared::new(core, log, limits, durability, around)))
    }

    /// An engine that keeps its items in memory only.
    pub fn in_memory(limits: Limits, around: Surroundings) -> Local {
        let core = Core::new(fastrand::u64(..), fastrand::u64(..));
        Local::new(core, Log::Memory, limits, "memory", around)
    }
}
