//! The engine of one machine: the state machine, its log, and those who wait.

use crate::engine::contract::{
    Engine, EngineView, ItemView, LeaseAnswer, LeaseRequest, Limits, Look, NewItem, QueueView, Refusal,
    Settled, Settlement, Until, Wish,
};
use crate::engine::core::{Core, Journal, LeaseTerms, Leased, NackTerms, Turn};
use crate::engine::item::{Item, ItemId, Place, State as ItemState};
use crate::engine::policy::PolicyChange;
use crate::engine::queue::Queue;
use crate::engine::record::Record;
use crate::log::front::{Front, Room};
use crate::metrics::QueuedMetrics;
use kit::readiness::Readiness;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Leases that may expire under one hold of the lock.
const EXPIRIES_AT_ONCE: usize = 256;
/// What a record takes in the log beyond its texts and body, at most.
const RECORD_BYTES: u64 = 96;

/// How long somebody who only looks waits for the disk.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// All that the threads of the engine share.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    /// Wakes the writer.
    pub work: Condvar,
    /// Wakes the housekeeping.
    pub housework: Condvar,
    /// Told when there may be room for pushes again.
    pub room: Notify,
    /// Told when there is something to write after this turn of the event loop.
    turn_over: Notify,
    /// Told when something is due earlier than was thought.
    timer: Notify,
    changes: watch::Sender<u64>,
    pub closing: AtomicBool,
    /// Waits end when it is cancelled.
    drain: CancellationToken,
    pub readiness: Readiness,
    pub metrics: QueuedMetrics,
    durability: &'static str,
}

#[derive(Debug)]
pub struct State {
    pub core: Core,
    log: Log,
    limits: Limits,
    clock: Clock,
    waiters: HashMap<Box<str>, VecDeque<Waiter>>,
    next_waiter: u64,
    /// When the timer looks next.
    armed_ms: u64,
    /// The writer sleeps.
    writer_idle: bool,
    /// `write_each_turn` runs.
    gathering: bool,
}

/// Where records go.
#[derive(Debug)]
pub enum Log {
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

/// The wall's time at the start and what passed since: it never jumps.
#[derive(Clone, Copy, Debug)]
struct Clock {
    began: Instant,
    wall_ms: u64,
}

impl Clock {
    fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { began: Instant::now(), wall_ms: millis(wall) }
    }

    fn now_ms(&self) -> u64 {
        self.wall_ms + millis(self.began.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A lease request that waits.
#[derive(Debug)]
struct Waiter {
    number: u64,
    request: LeaseRequest,
    answer: oneshot::Sender<(LeaseAnswer, Ticket)>,
}

/// Completes when what an answer says is as durable as it has to be.
type Ticket = Option<oneshot::Receiver<()>>;

impl State {
    pub fn disk_mut<R>(&mut self, act: impl FnOnce(&mut Front) -> R) -> Option<R> {
        match &mut self.log {
            Log::Disk(front) => Some(act(front)),
            Log::Memory => None,
        }
    }

    /// Carries out a command that appends about `bytes`, all of it in one group.
    pub fn turn<R>(&mut self, bytes: u64, act: impl FnOnce(&mut Core, &mut Turn<'_, Log>) -> R) -> R {
        if let Log::Disk(front) = &mut self.log
            && front.is_full_for(bytes)
        {
            front.begin_segment();
            self.core.checkpoint(&mut self.log);
        }
        let mut turn = Turn { now_ms: self.clock.now_ms(), limits: &self.limits, journal: &mut self.log };
        act(&mut self.core, &mut turn)
    }

    fn ticket(&mut self) -> Ticket {
        self.disk_mut(Front::ticket).flatten()
    }
}

impl Shared {
    #[allow(clippy::too_many_arguments, reason = "what an engine is made of, once")]
    fn new(
        core: Core,
        log: Log,
        limits: Limits,
        durability: &'static str,
        drain: CancellationToken,
        readiness: Readiness,
        metrics: QueuedMetrics,
    ) -> Shared {
        let state = State {
            core,
            log,
            limits,
            clock: Clock::start(),
            waiters: HashMap::new(),
            next_waiter: 0,
            armed_ms: u64::MAX,
            writer_idle: false,
            gathering: false,
        };
        Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            housework: Condvar::new(),
            room: Notify::new(),
            turn_over: Notify::new(),
            timer: Notify::new(),
            changes: watch::Sender::new(0),
            closing: AtomicBool::new(false),
            drain,
            readiness,
            metrics,
            durability,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's sleep.
    pub fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.writer_idle = true;
        let mut state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.writer_idle = false;
        state
    }

    pub fn wait_timeout<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        most: Duration,
    ) -> MutexGuard<'a, State> {
        state.writer_idle = true;
        let mut state = self.work.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0;
        state.writer_idle = false;
        state
    }

    /// The housekeeping's sleep.
    pub fn housework_timeout<'a>(
        &self,
        state: MutexGuard<'a, State>,
        most: Duration,
    ) -> MutexGuard<'a, State> {
        self.housework.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// What follows from a command: waiters are served in the same commit, the timer and the writer are told.
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
                // Leases to waiters touch the queue once more; they make nothing ready.
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
        let pending = state.disk_mut(|front| !front.pending.is_empty()) == Some(true);
        if pending && state.writer_idle {
            match state.gathering {
                true => self.turn_over.notify_one(),
                false => self.wake_writer(state),
            }
        }
    }

    fn wake_writer(&self, state: &mut State) {
        state.writer_idle = false;
        self.work.notify_all();
    }

    fn engine_view(&self, state: &mut State) -> EngineView {
        EngineView {
            durability: self.durability,
            memory_bytes: state.core.usage.memory_bytes,
            memory_bytes_max: state.limits.memory_bytes_max,
            log_bytes: state.disk_mut(|front| front.log_bytes()).unwrap_or(0),
        }
    }

    /// Gives back what a client that is gone was to get.
    fn release(&self, queue: &str, items: &[Leased]) {
        if items.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.turn(items.len() as u64 * RECORD_BYTES, |core, turn| release_all(core, turn, queue, items));
        self.follow_up(&mut state);
    }
}

fn release_all(core: &mut Core, turn: &mut Turn<'_, Log>, queue: &str, items: &[Leased]) {
    let terms = NackTerms { release: true, ..NackTerms::default() };
    for item in items {
        core.nack(queue, item.id, item.token, &terms, turn);
    }
}

/// Leases to those who wait, in their order, and tells those whose wait has come to its end.
fn serve_waiters(state: &mut State, name: &str) {
    let Some(mut waiters) = state.waiters.remove(name) else { return };
    while let Some(waiter) = waiters.front() {
        if waiter.answer.is_closed() {
            waiters.pop_front();
            continue;
        }
        let has_work = |q: &Queue| q.next_ready().is_some() || q.count_next.is_some();
        if !state.core.queue(name).is_ok_and(has_work) {
            break;
        }
        let items = try_lease(state, name, &waiter.request).unwrap_or_default();
        if items.is_empty() {
            break;
        }
        let answer = answer(state, name, &waiter.request, items, Vec::new());
        let (Some(waiter), Ok(answer)) = (waiters.pop_front(), answer) else { break };
        if let Err((unseen, _)) = waiter.answer.send((answer, None)) {
            let bytes = unseen.items.len() as u64 * RECORD_BYTES;
            state.turn(bytes, |core, turn| release_all(core, turn, name, &unseen.items));
        }
    }
    if let Ok(queue) = state.core.queue(name) {
        let reached =
            [Until::Drained, Until::Empty, Until::Sealed].map(|until| (until, until.is_reached(queue)));
        let is_reached = |until| reached.contains(&(until, true));
        if reached.iter().any(|(_, reached)| *reached) {
            for _ in 0..waiters.len() {
                let Some(waiter) = waiters.pop_front() else { break };
                if !is_reached(waiter.request.until) {
                    waiters.push_back(waiter);
                    continue;
                }
                let ticket = state.ticket();
                if let Ok(answer) = answer(state, name, &waiter.request, Vec::new(), Vec::new()) {
                    let _ = waiter.answer.send((answer, ticket));
                }
            }
        }
    }
    if !waiters.is_empty() {
        state.waiters.insert(name.into(), waiters);
    }
}

fn try_lease(state: &mut State, name: &str, request: &LeaseRequest) -> Result<Vec<Leased>, Refusal> {
    let terms =
        LeaseTerms { lease_ms: request.lease_ms, bound: request.bound, worker: request.worker.as_deref() };
    let bytes = (RECORD_BYTES + request.worker.as_ref().map_or(0, |w| w.len() as u64)) * request.max as u64;
    state.turn(bytes, |core, turn| core.lease(name, request.max, &terms, turn))
}

fn answer(
    state: &State,
    name: &str,
    request: &LeaseRequest,
    items: Vec<Leased>,
    results: Vec<Settled>,
) -> Result<LeaseAnswer, Refusal> {
    let queue = state.core.queue(name)?;
    Ok(LeaseAnswer {
        done: items.is_empty() && request.until.is_reached(queue),
        items,
        verdict: queue.verdict(),
        sealed: queue.sealed,
        ready: queue.tally(ItemState::Ready),
        delayed: queue.tally(ItemState::Delayed),
        leased: queue.tally(ItemState::Leased),
        results,
    })
}

fn settle_all(state: &mut State, name: &str, settlements: &[Settlement]) -> Vec<Settled> {
    if settlements.is_empty() {
        return Vec::new();
    }
    let texts = |s: &Settlement| match &s.wish {
        Wish::Nack { reason: Some(reason), .. } => reason.len() as u64,
        _ => 0,
    };
    let bytes = settlements.iter().map(|s| RECORD_BYTES + texts(s)).sum();
    state.turn(bytes, |core, turn| {
        let settle = |s: &Settlement| match &s.wish {
            Wish::Ack => core.ack(name, s.id, s.token, turn).then_some(Settled::Done),
            Wish::Nack { delay_ms, reason, release } => {
                let terms = NackTerms { delay_ms: *delay_ms, reason: reason.as_deref(), release: *release };
                core.nack(name, s.id, s.token, &terms, turn).map(|state| match state {
                    ItemState::Dead => Settled::Dead,
                    _ => Settled::Done,
                })
            }
            Wish::Extend { lease_ms } => {
                core.extend(name, s.id, s.token, *lease_ms, turn).map(Settled::Extended)
            }
        };
        settlements.iter().map(settle).map(|settled| settled.unwrap_or(Settled::Lost)).collect()
    })
}

/// The handle that the doors hold.
#[derive(Clone, Debug)]
pub struct Local(Arc<Shared>);

/// What an engine is told at its start.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub drain: CancellationToken,
    pub readiness: Readiness,
    pub metrics: QueuedMetrics,
}

impl Local {
    pub fn new(
        core: Core,
        log: Log,
        limits: Limits,
        durability: &'static str,
        around: Surroundings,
    ) -> Local {
        let Surroundings { drain, readiness, metrics } = around;
        Local(Arc::new(Shared::new(core, log, limits, durability, drain, readiness, metrics)))
    }

    /// An engine that forgets everything at its end.
    pub fn in_memory(limits: Limits, around: Surroundings) -> Local {
        let core = Core::new(fastrand::u64(..), fastrand::u64(..));
        Local::new(core, Log::Memory, limits, "memory", around)
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Everything at one moment, for a scrape.
    pub fn views(&self) -> (Vec<QueueView>, EngineView) {
        let mut state = self.0.lock();
        let queues = state.core.queues().map(|queue| view(&state, queue)).collect();
        (queues, self.0.engine_view(&mut state))
    }

    /// Wakes the writer once a turn of the event loop, when all requests that have arrived are in the group, and
    /// not with the first of them; to be spawned once, on the runtime of the doors.
    pub async fn write_each_turn(self) {
        self.0.lock().gathering = true;
        loop {
            self.0.turn_over.notified().await;
            // Comes back behind everything that is ready now.
            tokio::task::yield_now().await;
            let mut state = self.0.lock();
            if state.writer_idle && state.disk_mut(|front| !front.pending.is_empty()) == Some(true) {
                self.0.wake_writer(&mut state);
            }
        }
    }

    /// Lets time pass for the items; to be spawned once.
    pub async fn keep_time(self) {
        loop {
            let wait = {
                let mut state = self.0.lock();
                let more = state.turn(EXPIRIES_AT_ONCE as u64 * RECORD_BYTES, |core, turn| {
                    core.tick(EXPIRIES_AT_ONCE, turn)
                });
                state.armed_ms = state.core.next_due_ms().unwrap_or(u64::MAX);
                let wait = match more {
                    true => Duration::ZERO,
                    false => Duration::from_millis(state.armed_ms.saturating_sub(state.clock.now_ms())),
                };
                self.0.follow_up(&mut state);
                wait
            };
            if wait.is_zero() {
                tokio::task::yield_now().await;
                continue;
            }
            // Far ahead is as good as never; somebody tells when it comes nearer.
            let wait = wait.min(Duration::from_secs(3600));
            let _ = tokio::time::timeout(wait, self.0.timer.notified()).await;
        }
    }

    /// Carries out a command and waits until it is durable.
    async fn command<R>(
        &self,
        bytes: u64,
        act: impl FnOnce(&mut Core, &mut Turn<'_, Log>) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let (result, ticket) = {
            let mut state = self.0.lock();
            let result = state.turn(bytes, act)?;
            let ticket = state.ticket();
            self.0.follow_up(&mut state);
            (result, ticket)
        };
        durable(ticket).await?;
        Ok(result)
    }

    fn read<R>(&self, act: impl FnOnce(&mut State) -> Result<R, Refusal>) -> Result<R, Refusal> {
        act(&mut self.0.lock())
    }

    /// What is seen should not be undone by a power loss: a drained queue least of all. But a disk that hangs
    /// must not keep anybody from looking.
    async fn look_at<R>(&self, act: impl FnOnce(&mut State) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let (seen, ticket) = {
            let mut state = self.0.lock();
            let seen = act(&mut state)?;
            let failing = state.disk_mut(|front| front.failing.is_some()) == Some(true);
            let ticket = if failing { None } else { state.ticket() };
            self.0.follow_up(&mut state);
            (seen, ticket)
        };
        let _ = tokio::time::timeout(LOOK_PATIENCE, durable(ticket)).await;
        Ok(seen)
    }

    /// Waits until a push leaves enough room for acks, or says that it will not.
    async fn room_for(&self, bytes: u64) -> Result<(), Refusal> {
        loop {
            let told = self.0.room.notified();
            let room = self.0.lock().disk_mut(|front| front.room_for(bytes)).unwrap_or(Room::Enough);
            match room {
                Room::Enough => return Ok(()),
                Room::None(why) => return Err(Refusal::NoSpace(why)),
                Room::Soon => told.await,
            }
        }
    }
}

impl Local {
    /// Carries out the settlements, then leases what there is or queues up.
    fn begin_lease<'a>(&'a self, queue: &'a str, request: &LeaseRequest) -> Result<Begun<'a>, Refusal> {
        let mut state = self.0.lock();
        let results = settle_all(&mut state, queue, &request.settlements);
        // Those who wait already are before this one.
        self.0.follow_up(&mut state);
        let at_once = request.wait.is_zero() || self.0.drain.is_cancelled();
        let answered = try_lease(&mut state, queue, request)
            .and_then(|items| answer(&state, queue, request, items, results.clone()));
        let answered = match answered {
            Ok(answer) => (!answer.items.is_empty() || answer.done || at_once).then_some(answer),
            Err(Refusal::NoSuchQueue(_)) if !at_once => None,
            Err(refusal) => return Err(refusal),
        };
        let needs_disk = !results.is_empty() || answered.as_ref().is_some_and(|answer| answer.done);
        let ticket = if needs_disk { state.ticket() } else { None };
        let next = match answered {
            Some(answer) => Next::Answer(Box::new(answer)),
            None => {
                let number = state.next_waiter;
                state.next_waiter += 1;
                let (sender, receiver) = oneshot::channel();
                let request = LeaseRequest { settlements: Vec::new(), ..request.clone() };
                let waiter = Waiter { number, request, answer: sender };
                state.waiters.entry(queue.into()).or_default().push_back(waiter);
                Next::Wait(Wait { shared: &self.0, queue, number, answer: receiver, seen: false })
            }
        };
        self.0.follow_up(&mut state);
        Ok(Begun { results, ticket, next })
    }

    /// What a request gets whose wait ended with nothing.
    fn end_lease(&self, queue: &str, request: &LeaseRequest) -> Result<(LeaseAnswer, Ticket), Refusal> {
        let mut state = self.0.lock();
        let answered = answer(&state, queue, request, Vec::new(), Vec::new())?;
        let ticket = if answered.done { state.ticket() } else { None };
        self.0.follow_up(&mut state);
        Ok((answered, ticket))
    }
}

async fn durable(ticket: Ticket) -> Result<(), Refusal> {
    match ticket {
        None => Ok(()),
        Some(ticket) => ticket.await.map_err(|_| Refusal::Unavailable("the log was given up".to_owned())),
    }
}

fn view(state: &State, queue: &Queue) -> QueueView {
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

fn view_of(state: &State, name: &str) -> Result<QueueView, Refusal> {
    Ok(view(state, state.core.queue(name)?))
}

/// An item with its body, wherever that is.
fn item_view(state: &mut State, name: &str, item: &Item) -> Result<ItemView, Refusal> {
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

/// A lease request after its first look at the queue.
struct Begun<'a> {
    results: Vec<Settled>,
    ticket: Ticket,
    next: Next<'a>,
}

enum Next<'a> {
    Answer(Box<LeaseAnswer>),
    Wait(Wait<'a>),
}

/// A place in the line of waiters; leaving it unseen gives back what came meanwhile.
struct Wait<'a> {
    shared: &'a Shared,
    queue: &'a str,
    number: u64,
    answer: oneshot::Receiver<(LeaseAnswer, Ticket)>,
    seen: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.seen {
            return;
        }
        let mut state = self.shared.lock();
        if let Some(waiters) = state.waiters.get_mut(self.queue) {
            waiters.retain(|waiter| waiter.number != self.number);
            if waiters.is_empty() {
                state.waiters.remove(self.queue);
            }
        }
        drop(state);
        if let Ok((answer, _)) = self.answer.try_recv() {
            self.shared.release(self.queue, &answer.items);
        }
    }
}

impl Engine for Local {
    async fn push(
        &self,
        queue: &str,
        items: Vec<NewItem>,
        seal: bool,
    ) -> Result<Vec<(ItemId, bool)>, Refusal> {
        let texts = |item: &NewItem| {
            let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
            (item.body.len() + text(&item.key) + text(&item.content_type)) as u64 + RECORD_BYTES
        };
        let bytes = items.iter().map(texts).sum();
        self.room_for(bytes).await?;
        let (ids, ticket) = {
            let mut state = self.0.lock();
            let ids = state.turn(bytes, |core, turn| core.push(queue, items, seal, turn))?;
            evict_beyond_bound(&mut state, queue, &ids);
            let ticket = state.ticket();
            self.0.follow_up(&mut state);
            (ids, ticket)
        };
        durable(ticket).await?;
        Ok(ids)
    }

    async fn lease(&self, queue: &str, request: LeaseRequest) -> Result<LeaseAnswer, Refusal> {
        let mut begun = self.begin_lease(queue, &request)?;
        let (results, ticket) = (std::mem::take(&mut begun.results), begun.ticket.take());
        let mut wait = match begun.next {
            Next::Answer(answer) => return seen(&self.0, queue, *answer, ticket).await,
            Next::Wait(wait) => wait,
        };
        let waited = tokio::select! {
            biased;
            answer = &mut wait.answer => answer.ok(),
            () = tokio::time::sleep(request.wait) => None,
            () = self.0.drain.cancelled() => None,
        };
        wait.seen = waited.is_some();
        // What came in the very last moment is taken, not thrown back.
        let waited = waited.or_else(|| {
            let late = wait.answer.try_recv().ok();
            wait.seen = late.is_some();
            late
        });
        drop(wait);
        let (mut answered, later) = match waited {
            Some(waited) => waited,
            None => self.end_lease(queue, &request)?,
        };
        answered.results = results;
        durable(ticket).await?;
        seen(&self.0, queue, answered, later).await
    }

    async fn settle(&self, queue: &str, settlements: Vec<Settlement>) -> Result<Vec<Settled>, Refusal> {
        let only_extends = settlements.iter().all(|s| matches!(s.wish, Wish::Extend { .. }));
        let (results, ticket) = {
            let mut state = self.0.lock();
            let results = settle_all(&mut state, queue, &settlements);
            let ticket = if only_extends { None } else { state.ticket() };
            self.0.follow_up(&mut state);
            (results, ticket)
        };
        durable(ticket).await?;
        Ok(results)
    }

    async fn configure(&self, queue: &str, change: PolicyChange) -> Result<(bool, QueueView), Refusal> {
        let created =
            self.command(RECORD_BYTES * 4, |core, turn| core.configure(queue, &change, turn)).await?;
        Ok((created, self.read(|state| view_of(state, queue))?))
    }

    async fn count_from(&self, queue: &str, first: u64) -> Result<(), Refusal> {
        self.command(RECORD_BYTES * 4, |core, turn| core.count_from(queue, first, turn)).await
    }

    async fn delete(&self, queue: &str) -> Result<(), Refusal> {
        self.command(RECORD_BYTES, |core, turn| core.delete(queue, turn)).await
    }

    async fn seal(&self, queue: &str, sealed: bool) -> Result<QueueView, Refusal> {
        self.command(RECORD_BYTES * 4, |core, turn| core.seal(queue, sealed, turn)).await?;
        self.read(|state| view_of(state, queue))
    }

    async fn drain(&self, queue: &str) -> Result<u64, Refusal> {
        self.command(RECORD_BYTES, |core, turn| core.drain(queue, turn)).await
    }

    async fn redrive_dead(&self, queue: &str, ids: Option<Vec<ItemId>>) -> Result<u64, Refusal> {
        let bytes = ids.as_ref().map_or(1000, Vec::len) as u64 * RECORD_BYTES;
        self.command(bytes, |core, turn| core.bury_or_redrive(queue, ids.as_deref(), true, turn)).await
    }

    async fn delete_dead(&self, queue: &str, ids: Option<Vec<ItemId>>) -> Result<u64, Refusal> {
        let bytes = ids.as_ref().map_or(1000, Vec::len) as u64 * RECORD_BYTES;
        self.command(bytes, |core, turn| core.bury_or_redrive(queue, ids.as_deref(), false, turn)).await
    }

    async fn queue(&self, queue: &str) -> Result<QueueView, Refusal> {
        self.look_at(|state| view_of(state, queue)).await
    }

    async fn queues(&self) -> Result<Vec<QueueView>, Refusal> {
        self.look_at(|state| Ok(state.core.queues().map(|queue| view(state, queue)).collect())).await
    }

    async fn look(&self, queue: &str, look: Look) -> Result<Vec<ItemView>, Refusal> {
        self.read(|state| {
            let after = look.after.map_or(0, |id| id.number);
            let items = state.core.queue(queue)?.items().iter_after(after);
            let wanted = items.filter(|item| look.state.is_none_or(|wanted| wanted == item.state));
            let wanted: Vec<Item> = wanted.take(look.limit).cloned().collect();
            wanted.iter().map(|item| item_view(state, queue, item)).collect()
        })
    }

    async fn item(&self, queue: &str, id: ItemId) -> Result<ItemView, Refusal> {
        self.read(|state| {
            let ours = id.epoch == state.core.epoch;
            let item = state.core.queue(queue)?.items().get(id.number).filter(|_| ours).cloned();
            let item = item.ok_or_else(|| Refusal::NoSuchItem(queue.to_owned(), id))?;
            item_view(state, queue, &item)
        })
    }

    async fn view(&self) -> Result<EngineView, Refusal> {
        self.read(|state| Ok(self.0.engine_view(state)))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

/// Hands the answer over once it is durable; if nobody is there to take it, its items go back.
async fn seen(
    shared: &Shared,
    queue: &str,
    answer: LeaseAnswer,
    ticket: Ticket,
) -> Result<LeaseAnswer, Refusal> {
    struct Unseen<'a>(&'a Shared, &'a str, Option<LeaseAnswer>);
    impl Drop for Unseen<'_> {
        fn drop(&mut self) {
            if let Some(answer) = self.2.take() {
                self.0.release(self.1, &answer.items);
            }
        }
    }
    let mut unseen = Unseen(shared, queue, Some(answer));
    durable(ticket).await?;
    unseen.2.take().ok_or_else(|| Refusal::Unavailable("answered already".to_owned()))
}

/// Beyond the memory's bound the bodies that came last lie on the disk only: they are the farthest from the
/// head.
fn evict_beyond_bound(state: &mut State, queue: &str, ids: &[(ItemId, bool)]) {
    if !state.limits.spills || state.core.usage.memory_bytes <= state.limits.memory_bytes_max {
        return;
    }
    let Ok(q) = state.core.queue(queue) else { return };
    let number = q.number;
    let new = ids.iter().filter(|(_, known)| !known).filter_map(|(id, _)| q.items().get(id.number));
    let places: Vec<(u64, Place)> = new.map(|item| (item.number, item.place)).collect();
    for (item, place) in places {
        state.disk_mut(|front| front.evict_when_written(number, item, place));
    }
}
