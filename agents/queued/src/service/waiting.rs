//! Lease requests that wait for items. They are served in the order of their arrival, and each is answered
//! once. Items for a client that is gone are released.

use super::commands::settle_all;
use super::{Engine, EngineState, RECORD_BYTES_MAX, Shared, Ticket, durable};
use crate::engine::contract::{EngineError, LeaseAnswer, LeaseRequest, Leased, Settled, Until};
use crate::engine::core::{LeaseTerms, NackTerms};
use crate::engine::item::ItemState;
use crate::engine::queue::Queue;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// A waiting lease request. It leaves the line before its receiver is gone, so it can always be answered.
#[derive(Debug)]
pub(super) struct Waiter {
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
    while state.core.queue(name).is_ok_and(Queue::has_work) {
        let Some(waiter) = waiters.front() else { return };
        let items = try_lease(state, name, &waiter.request).unwrap_or_default();
        if items.is_empty() {
            return;
        }
        let answer = answer(state, name, &waiter.request, items);
        let (Some(waiter), Ok(answer)) = (waiters.pop_front(), answer) else { return };
        let _ = waiter.answer.send((answer, None));
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
        if let Ok(answer) = answer(state, name, &waiter.request, Vec::new()) {
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
        results: Vec::new(),
    })
}

/// A lease request whose client has not seen an answer. If it is dropped, it leaves the line, and its items
/// are released.
struct Unanswered<'a> {
    shared: &'a Shared,
    queue: &'a str,
    /// The place in the line of waiters, until the answer is there.
    line: Option<oneshot::Receiver<(LeaseAnswer, Ticket)>>,
    items: Vec<Leased>,
}

impl Engine {
    /// Carries out the settlements, then answers with ready items. Without any, waits for some, for the state
    /// named by `until`, or for the end of the wait.
    pub async fn lease(&self, queue: &str, request: LeaseRequest) -> Result<LeaseAnswer, EngineError> {
        let mut lease = Unanswered { shared: &self.0, queue, line: None, items: Vec::new() };
        let ((results, answered), settled) = lease.begin(&request)?;
        let (answer, ticket) = match answered {
            Some(answer) => (answer, None),
            None => lease.wait(&request).await?,
        };
        lease.items = answer.items;
        durable(settled).await?;
        durable(ticket).await?;
        Ok(LeaseAnswer { items: std::mem::take(&mut lease.items), results, ..answer })
    }
}

impl Unanswered<'_> {
    /// Carries out the settlements, then leases ready items or joins the line. The ticket is for the
    /// settlements, and for an answer that says that the queue is done.
    fn begin(
        &mut self,
        request: &LeaseRequest,
    ) -> Result<((Vec<Settled>, Option<LeaseAnswer>), Ticket), EngineError> {
        let shared = self.shared;
        shared.act(|state| {
            let results = settle_all(state, self.queue, &request.settlements);
            // Requests that are already waiting are served before this one.
            shared.follow_up(state);
            let at_once = request.wait.is_zero() || shared.drain.is_cancelled();
            let items = try_lease(state, self.queue, request);
            let answered = match items.and_then(|items| answer(state, self.queue, request, items)) {
                Ok(answer) => (!answer.items.is_empty() || answer.done || at_once).then_some(answer),
                Err(EngineError::NoSuchQueue(_)) if !at_once => None,
                Err(refusal) => return Err(refusal),
            };
            let needs_disk = !results.is_empty() || answered.as_ref().is_some_and(|answer| answer.done);
            let ticket = if needs_disk { state.tail.ticket() } else { None };
            if answered.is_none() {
                let (answer, line) = oneshot::channel();
                let request = LeaseRequest { settlements: Vec::new(), ..request.clone() };
                state.waiters.entry(self.queue.into()).or_default().push_back(Waiter { request, answer });
                self.line = Some(line);
            }
            Ok(((results, answered), ticket))
        })
    }

    /// Waits in the line. If no answer comes in time, the answer has no items.
    async fn wait(&mut self, request: &LeaseRequest) -> Result<(LeaseAnswer, Ticket), EngineError> {
        if let Some(line) = &mut self.line {
            let answered = tokio::select! {
                biased;
                answered = line => answered.ok(),
                () = tokio::time::sleep(request.wait) => None,
                () = self.shared.drain.cancelled() => None,
            };
            if let Some(answered) = answered {
                self.line = None;
                return Ok(answered);
            }
        }
        let shared = self.shared;
        shared.act(|state| {
            // An answer that came at the very last moment is used, not discarded.
            if let Some(answered) = self.leave_line(state) {
                return Ok(answered);
            }
            let answered = answer(state, self.queue, request, Vec::new())?;
            let ticket = if answered.done { state.tail.ticket() } else { None };
            Ok((answered, ticket))
        })
    }

    /// Leaves the line; returns an answer that came before that.
    fn leave_line(&mut self, state: &mut EngineState) -> Option<(LeaseAnswer, Ticket)> {
        let mut line = self.line.take()?;
        line.close();
        if let Some(waiters) = state.waiters.get_mut(self.queue) {
            waiters.retain(|waiter| !waiter.answer.is_closed());
            if waiters.is_empty() {
                state.waiters.remove(self.queue);
            }
        }
        line.try_recv().ok()
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.line.is_none() && self.items.is_empty() {
            return;
        }
        let shared = self.shared;
        let mut state = shared.lock();
        if let Some((answer, _)) = self.leave_line(&mut state) {
            self.items = answer.items;
        }
        let terms = NackTerms { release: true, ..NackTerms::default() };
        state.turn(self.items.len() as u64 * RECORD_BYTES_MAX, |core, turn| {
            for item in &self.items {
                core.nack(self.queue, item.id, item.token, &terms, turn);
            }
        });
        shared.follow_up(&mut state);
    }
}
