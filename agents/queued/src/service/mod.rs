//! The engine as a service: one handle to the queues, their commit path and the waiting requests.

mod clock;
mod commands;
mod committing;
mod housekeeping;
pub mod opening;
mod presence;
mod views;
mod waiting;

use crate::commit::memory::Memory;
use crate::commit::tail::{Tail, Ticket};
use crate::commit::{Durability, Log};
use crate::engine::contract::{EngineError, Limits};
use crate::engine::core::{Core, Turn};
use crate::metrics::QueuedMetrics;
use clock::Clock;
use kit::lifecycle::readiness::Readiness;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use waiting::{Waiter, serve_waiters};

/// Maximum log bytes of a record beyond its texts and body.
const RECORD_BYTES_MAX: u64 = 96;

/// The state shared by the engine's threads.
#[derive(Debug)]
struct Shared {
    state: Mutex<EngineState>,
    log: Arc<dyn Log>,
    durability: Durability,
    /// Wakes the task that commits, because the phase of the commit path has changed or there are answers to
    /// give.
    commit: Notify,
    /// Wakes the thread that writes while the log is slow, and syncs.
    thread: Condvar,
    /// Wakes the housekeeping.
    housework: Condvar,
    /// Notified when the log may have space for pushes again.
    room: Notify,
    /// Notified when something is due earlier than the timer expects.
    timer: Notify,
    changes: watch::Sender<u64>,
    drain: CancellationToken,
    readiness: Readiness,
    metrics: QueuedMetrics,
}

#[derive(Debug)]
struct EngineState {
    core: Core,
    tail: Tail,
    limits: Limits,
    clock: Clock,
    waiters: HashMap<Box<str>, VecDeque<Waiter>>,
    /// The time at which the timer wakes next.
    armed_ms: u64,
    /// True while the housekeeping sleeps until something happens.
    housework_rests: bool,
    /// Durable answers that the task has to give.
    answers: Vec<oneshot::Sender<()>>,
    closing: bool,
}

impl EngineState {
    /// Carries out a command that appends about `bytes`, all of them in one group.
    fn turn<R>(&mut self, bytes: u64, act: impl FnOnce(&mut Core, &mut Turn<'_, Tail>) -> R) -> R {
        if self.tail.is_full_for(bytes) {
            let core = &mut self.core;
            self.tail.begin_segment(|tail| core.checkpoint(tail));
        }
        let mut turn = Turn { now_ms: self.clock.now_ms(), limits: &self.limits, journal: &mut self.tail };
        let result = act(&mut self.core, &mut turn);
        // The newest items are leased last, so their bodies stay on the disk only while memory is above its
        // limit.
        let spills = self.limits.spills && self.core.usage.memory_bytes > self.limits.memory_bytes_max;
        for (queue, number, place) in self.core.added.drain(..).filter(|_| spills) {
            self.tail.evict_when_written(queue, number, place);
        }
        result
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, EngineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the state and handles the consequences, under one hold of the lock. Returns the result with a
    /// ticket for what was appended, if `act` took one.
    fn act<R>(
        &self,
        act: impl FnOnce(&mut EngineState) -> Result<(R, Ticket), EngineError>,
    ) -> Result<(R, Ticket), EngineError> {
        let mut state = self.lock();
        let done = act(&mut state)?;
        self.follow_up(&mut state);
        Ok(done)
    }

    /// Handles the consequences of a command: serves waiters in the same commit, and notifies the timer and
    /// the commit path.
    fn follow_up(&self, state: &mut EngineState) {
        let mut touched = state.core.take_touched();
        touched.sort_unstable();
        touched.dedup();
        for number in &touched {
            let Some(queue) = state.core.queue_by_number(*number) else { continue };
            if !state.waiters.is_empty() {
                let name = queue.name.clone();
                serve_waiters(state, &name);
            }
        }
        // Leases to waiters touch the queue again, but make nothing ready.
        touched.append(&mut state.core.take_touched());
        let due_ms = touched.iter().filter_map(|number| state.core.queue_by_number(*number)?.next_due_ms());
        if let Some(due_ms) = due_ms.min().filter(|due_ms| *due_ms < state.armed_ms) {
            state.armed_ms = due_ms;
            self.timer.notify_one();
        }
        if !touched.is_empty() && self.changes.receiver_count() > 0 {
            self.changes.send_modify(|count| *count += 1);
        }
        if !touched.is_empty() && state.housework_rests {
            state.housework_rests = false;
            self.housework.notify_all();
        }
        self.commit_soon(state);
    }

    /// Notifies the commit path that records were appended.
    fn commit_soon(&self, state: &mut EngineState) {
        if state.tail.appended() {
            self.commit.notify_one();
        }
    }
}

async fn durable(ticket: Ticket) -> Result<(), EngineError> {
    match ticket {
        None => Ok(()),
        Some(ticket) => {
            ticket.await.map_err(|_| EngineError::Unavailable("writing to the log has ended".to_owned()))
        }
    }
}

/// The engine's handle, held by the doors and cheap to clone. Its futures may be dropped at any time. A lease
/// that no client receives is then released; any other command may or may not have been carried out.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Shared>);

/// The environment of an engine, passed at its start.
#[derive(Clone, Debug)]
pub struct Environment {
    pub drain: CancellationToken,
    pub readiness: Readiness,
    pub metrics: QueuedMetrics,
}

impl Engine {
    /// Creates an engine over any log, with the state that was read from it. [`Engine::start`] must follow.
    pub fn over(
        log: Arc<dyn Log>,
        core: Core,
        durability: Durability,
        limits: Limits,
        around: Environment,
    ) -> Engine {
        let mut state = EngineState {
            clock: Clock::start(core.latest_ms),
            core,
            tail: Tail::new(log.clone(), durability),
            limits,
            waiters: HashMap::new(),
            armed_ms: u64::MAX,
            housework_rests: false,
            answers: Vec::new(),
            closing: false,
        };
        // Appends the state of every queue: the segment may be new, and the counters are correct now.
        let EngineState { core, tail, .. } = &mut state;
        match tail.is_full_for(0) {
            // Without this, many short runs would let one segment grow without end.
            true => tail.begin_segment(|tail| core.checkpoint(tail)),
            false => tail.checkpoint(|tail| core.checkpoint(tail)),
        }
        state.turn(0, Core::release_bound);
        state.tail.appended();
        Engine(Arc::new(Shared {
            state: Mutex::new(state),
            log,
            durability,
            commit: Notify::new(),
            thread: Condvar::new(),
            housework: Condvar::new(),
            room: Notify::new(),
            timer: Notify::new(),
            changes: watch::Sender::new(0),
            drain: around.drain,
            readiness: around.readiness,
            metrics: around.metrics,
        }))
    }

    /// Creates an engine that keeps its items in memory only.
    pub fn in_memory(limits: Limits, around: Environment) -> Engine {
        let core = Core::new(fastrand::u64(..), fastrand::u64(..));
        Engine::over(Arc::new(Memory), core, Durability::None, limits, around)
    }

    /// Starts the tasks on the event loop. Must be called once, on the runtime of the doors.
    pub fn start(&self) {
        tokio::spawn(self.clone().keep_time());
        if self.0.log.end().is_some() {
            tokio::spawn(self.clone().keep_committing());
            tokio::spawn(self.clone().keep_watch());
        }
    }
}
