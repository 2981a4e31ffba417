//! Lease requests that wait for items. They are served in the order of their arrival, and each is answered
//! once. Items for a client that is gone are requeued.

use super::commands::settle_all;
use super::{Engine, EngineState, RECORD_BYTES_MAX, Shared, Ticket, durable};
use crate::commit::tail::Tail;
use crate::engine::contract::{EngineError, LeaseAnswer, LeaseRequest, Leased, Settled, Until};
use crate::engine::core::{Core, LeaseTerms, NackTerms, Turn};
use crate::engine::item::ItemState;
use crate::engine::queue::Queue;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// A waiting lease request.
#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    request: LeaseRequest,
    answer: oneshot::Sender<(LeaseAnswer, Ticket)>,
}

/// Leases items to waiters, and answers those whose `until` is reached.
pub(super) fn serve_waiters(state: &mut EngineState, name: &str) {
    let Some(mut waiters) = state.waiters.remove(name) else { return };
    lease_to(&mut waiters, state, name);
    answer_reached(&mut waiters, state, name);
    if !waiters.is_empty() {
        state.waiters.insert(name.into(), waiters);
    }
}

/// Leases items to waiters in the order of their arrival.
fn lease_to(waiters: &mut VecDeque<Waiter>, state: &mut EngineState, name: &str) {
    loop {
        while waiters.front().is_some_and(|waiter| waiter.answer.is_closed()) {
            waiters.pop_front();
        }
        let Some(waiter) = waiters.front() else { return };
        if !state.core.queue(name).is_ok_and(Queue::has_work) {
            return;
        }
        let items = try_lease(state, name, &waiter.request).unwrap_or_default();
        if items.is_empty() {
            return;
        }
        let answer = answer(state, name, &waiter.request, items, Vec::new());
        let (Some(waiter), Ok(answer)) = (waiters.pop_front(), answer) else { return };
        if let Err((unseen, _)) = waiter.answer.send((answer, None)) {
            let bytes = unseen.items.len() as u64 * RECORD_BYTES_MAX;
            state.turn(bytes, |core, turn| release_all(core, turn, name, &unseen.items));
        }
    }
}

/// Answers waiters whose `until` is reached.
fn answer_reached(waiters: &mut VecDeque<Waiter>, state: &mut EngineState, name: &str) {
    let Ok(queue) = state.core.queue(name) else { return };
    let mut reached = vec![Until::Drained, Until::Empty, Until::Sealed];
    reached.retain(|until| until.is_reached(queue));
    if reached.is_empty() {
        return;
    }
    let (done, left) = std::mem::take(waiters).into_iter().partition(|w| reached.contains(&w.request.until));
    *waiters = left;
    for waiter in done {
        let ticket = state.tail.ticket();
        if let Ok(answer) = answer(state, name, &waiter.request, Vec::new(), Vec::new()) {
            let _ = waiter.answer.send((answer, ticket));
        }
    }
}

fn try_lease(
    state: &mut EngineState,
    name: &str,
    request: &LeaseRequest,
) -> Result<Vec<Leased>, EngineError> {
    let terms =
        LeaseTerms { lease_ms: request.lease_ms, bound: request.bound, worker: request.worker.as_deref() };
    let bytes =
        (RECORD_BYTES_MAX + request.worker.as_ref().map_or(0, |w| w.len() as u64)) * request.max as u64;
    state.turn(bytes, |core, turn| core.lease(name, request.max, &terms, turn))
}

fn answer(
    state: &EngineState,
    name: &str,
    request: &LeaseRequest,
    items: Vec<Leased>,
    results: Vec<Settled>,
) -> Result<LeaseAnswer, EngineError> {
    let queue = state.core.queue(name)?;
    Ok(LeaseAnswer {
        done: items.is_empty() && request.until.is_reached(queue),
        items,
        verdict: queue.verdict(),
        sealed: queue.sealed,
        paused: queue.paused,
        ready: queue.tally(ItemState::Ready),
        delayed: queue.tally(ItemState::Delayed),
        leased: queue.tally(ItemState::Leased),
        failed: queue.failed(),
        results,
    })
}

/// A lease request after the first try to serve it.
struct Begun<'a> {
    results: Vec<Settled>,
    ticket: Ticket,
    next: AnswerOrWait<'a>,
}

enum AnswerOrWait<'a> {
    Answer(Box<LeaseAnswer>),
    Wait(Wait<'a>),
}

/// A place in the line of waiters. If it is dropped before the answer was seen, the answer's items are
/// released.
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

impl Engine {
    /// Answers with ready items. Without any, waits for some, for the state named by `until`, or for the end
    /// of the wait.
    pub(super) async fn wait_for_work(
        &self,
        queue: &str,
        request: LeaseRequest,
    ) -> Result<LeaseAnswer, EngineError> {
        let mut begun = self.begin_lease(queue, &request)?;
        let (results, ticket) = (std::mem::take(&mut begun.results), begun.ticket.take());
        let mut wait = match begun.next {
            AnswerOrWait::Answer(answer) => return seen(&self.0, queue, *answer, ticket).await,
            AnswerOrWait::Wait(wait) => wait,
        };
        let waited = tokio::select! {
            biased;
            answer = &mut wait.answer => answer.ok(),
            () = tokio::time::sleep(request.wait) => None,
            () = self.0.drain.cancelled() => None,
        };
        wait.seen = waited.is_some();
        // An answer that came at the very last moment is used, not discarded.
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

    /// Carries out the settlements, then leases ready items or joins the line.
    fn begin_lease<'a>(&'a self, queue: &'a str, request: &LeaseRequest) -> Result<Begun<'a>, EngineError> {
        let mut state = self.0.lock();
        let results = settle_all(&mut state, queue, &request.settlements);
        // Requests that are already waiting are served before this one.
        self.0.follow_up(&mut state);
        let at_once = request.wait.is_zero() || self.0.drain.is_cancelled();
        let answered = try_lease(&mut state, queue, request)
            .and_then(|items| answer(&state, queue, request, items, results.clone()));
        let answered = match answered {
            Ok(answer) => (!answer.items.is_empty() || answer.done || at_once).then_some(answer),
            Err(EngineError::NoSuchQueue(_)) if !at_once => None,
            Err(refusal) => return Err(refusal),
        };
        let needs_disk = !results.is_empty() || answered.as_ref().is_some_and(|answer| answer.done);
        let ticket = if needs_disk { state.tail.ticket() } else { None };
        let next = match answered {
            Some(answer) => AnswerOrWait::Answer(Box::new(answer)),
            None => {
                let number = state.next_waiter;
                state.next_waiter += 1;
                let (sender, receiver) = oneshot::channel();
                let request = LeaseRequest { settlements: Vec::new(), ..request.clone() };
                let waiter = Waiter { number, request, answer: sender };
                state.waiters.entry(queue.into()).or_default().push_back(waiter);
                AnswerOrWait::Wait(Wait { shared: &self.0, queue, number, answer: receiver, seen: false })
            }
        };
        self.0.follow_up(&mut state);
        Ok(Begun { results, ticket, next })
    }

    /// Returns the answer to a request whose wait ended without items.
    fn end_lease(&self, queue: &str, request: &LeaseRequest) -> Result<(LeaseAnswer, Ticket), EngineError> {
        let mut state = self.0.lock();
        let answered = answer(&state, queue, request, Vec::new(), Vec::new())?;
        let ticket = if answered.done { state.tail.ticket() } else { None };
        self.0.follow_up(&mut state);
        Ok((answered, ticket))
    }
}

impl Shared {
    /// Releases the items of a client that is gone.
    fn release(&self, queue: &str, items: &[Leased]) {
        if items.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.turn(items.len() as u64 * RECORD_BYTES_MAX, |core, turn| release_all(core, turn, queue, items));
        self.follow_up(&mut state);
    }
}

fn release_all(core: &mut Core, turn: &mut Turn<'_, Tail>, queue: &str, items: &[Leased]) {
    let terms = NackTerms { release: true, ..NackTerms::default() };
    for item in items {
        core.nack(queue, item.id, item.token, &terms, turn);
    }
}

/// Returns the answer once it is durable. If the request is gone by then, its items are released.
async fn seen(
    shared: &Shared,
    queue: &str,
    answer: LeaseAnswer,
    ticket: Ticket,
) -> Result<LeaseAnswer, EngineError> {
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
    unseen.2.take().ok_or_else(|| EngineError::Unavailable("answered already".to_owned()))
}
