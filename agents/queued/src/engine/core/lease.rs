//! Makes, acks, returns, expires and extends leases. See [`super::dead`] for the last attempt.

use super::{Core, Journal, Turn};
use crate::engine::contract::{EngineError, Leased, NewItem};
use crate::engine::item::{ItemId, ItemState, Token};
use crate::engine::record::{Record, Return};

/// The terms of a lease.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseTerms<'a> {
    pub lease_ms: Option<u64>,
    pub bound: bool,
    pub worker: Option<&'a str>,
}

/// The terms of a nack.
#[derive(Clone, Copy, Debug, Default)]
pub struct NackTerms<'a> {
    pub delay_ms: Option<u64>,
    pub reason: Option<&'a str>,
    pub release: bool,
}

impl Core {
    /// Leases up to `max` ready items, oldest first, as many as fit into one answer.
    pub fn lease(
        &mut self,
        name: &str,
        max: usize,
        terms: &LeaseTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<Vec<Leased>, EngineError> {
        let queue = self.queue(name)?;
        if queue.paused {
            return Ok(Vec::new());
        }
        let number = queue.number;
        let (mut leased, mut bytes) = (Vec::new(), 0u64);
        while leased.len() < max {
            let next = self.queues.get(&number).and_then(|queue| queue.items().get(queue.next_ready()?));
            bytes = bytes.saturating_add(next.map_or(0, |item| item.len.into()));
            if bytes > turn.limits.answer_bytes_max && !leased.is_empty() {
                break;
            }
            match self.lease_one(number, terms, turn) {
                Ok(Some(item)) => leased.push(item),
                Ok(None) => break,
                // Items that are already leased must reach the worker.
                Err(refusal) if leased.is_empty() => return Err(refusal),
                Err(_) => break,
            }
        }
        Ok(leased)
    }

    fn lease_one(
        &mut self,
        number: u32,
        terms: &LeaseTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Result<Option<Leased>, EngineError> {
        let Some(queue) = self.queues.get(&number) else { return Ok(None) };
        let Some(next) = queue.next_ready() else {
            let Some(count) = queue.count_next else { return Ok(None) };
            let body = count.to_string().into_bytes().into();
            self.push_one(number, NewItem { body, ..NewItem::default() }, turn);
            return self.lease_one(number, terms, turn);
        };
        let Some(item) = queue.items().get(next) else { return Ok(None) };
        let body = turn.journal.body(item)?.into_owned().into();
        let lease_ms = terms.lease_ms.unwrap_or(queue.policy.lease_ms);
        let token = Token(self.random.u64(1..));
        let leased = Leased {
            id: self.id(next),
            token,
            attempt: item.attempts.saturating_add(1),
            pushed_ms: item.pushed_ms,
            lease_ms,
            key: item.key().map(Into::into),
            content_type: item.content_type().map(Into::into),
            body,
        };
        let until_ms = turn.now_ms.saturating_add(lease_ms);
        let (bound, worker) = (terms.bound, terms.worker);
        self.write(&Record::Leased { queue: number, number: next, token, until_ms, bound, worker }, turn);
        Ok(Some(leased))
    }

    /// Returns the numbers of the queue and the item if this token proves the item's lease.
    fn held(&self, name: &str, id: ItemId, token: Token) -> Option<(u32, u64)> {
        let queue = self.queue(name).ok()?;
        let item = queue.items().get(id.number).filter(|_| id.epoch == self.epoch)?;
        let holds = queue.when(id.number).is_some_and(|when| when.token == token);
        (item.state == ItemState::Leased && holds).then_some((queue.number, id.number))
    }

    /// Acks the item and removes it. False if the lease is no longer held.
    pub fn ack(&mut self, name: &str, id: ItemId, token: Token, turn: &mut Turn<'_, impl Journal>) -> bool {
        let Some((queue, number)) = self.held(name, id, token) else { return false };
        self.put(&Record::Acked { queue, number, at_ms: turn.now_ms }, turn.journal);
        true
    }

    /// Nacks the item; returns its new state if the lease was held.
    pub fn nack(
        &mut self,
        name: &str,
        id: ItemId,
        token: Token,
        terms: &NackTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Option<ItemState> {
        let (queue, number) = self.held(name, id, token)?;
        let how = if terms.release { Return::Released } else { Return::Nacked };
        Some(self.give_back(queue, number, how, terms, turn))
    }

    /// Extends the lease from now on; returns its length if the lease was held.
    pub fn extend(
        &mut self,
        name: &str,
        id: ItemId,
        token: Token,
        lease_ms: Option<u64>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> Option<u64> {
        let (queue, number) = self.held(name, id, token)?;
        let lease_ms = lease_ms.unwrap_or(self.queues.get(&queue)?.policy.lease_ms);
        let until_ms = turn.now_ms.saturating_add(lease_ms);
        self.write(&Record::Extended { queue, number, until_ms }, turn);
        Some(lease_ms)
    }

    #[allow(clippy::too_many_arguments, reason = "one end of a lease")]
    fn give_back(
        &mut self,
        queue: u32,
        number: u64,
        how: Return,
        terms: &NackTerms<'_>,
        turn: &mut Turn<'_, impl Journal>,
    ) -> ItemState {
        let Some(q) = self.queues.get(&queue) else { return ItemState::Ready };
        let attempts = q.items().get(number).map_or(0, |item| item.attempts);
        if how != Return::Released && q.policy.is_spent(attempts) {
            self.die(queue, number, how, terms.reason, turn);
            return ItemState::Dead;
        }
        let rest_ms = match how {
            Return::Released => 0,
            _ => terms.delay_ms.unwrap_or(q.policy.backoff_ms_after(attempts)),
        };
        let due_ms = (rest_ms > 0).then(|| turn.now_ms.saturating_add(rest_ms));
        self.write(&Record::Returned { queue, number, how, due_ms, reason: terms.reason }, turn);
        if due_ms.is_some() { ItemState::Delayed } else { ItemState::Ready }
    }

    /// Makes due delayed items ready and expires leases. Stops after `at_most` of them, so that a million
    /// leases that expire at once do not delay other requests; returns true if there are more.
    pub fn tick(&mut self, at_most: usize, turn: &mut Turn<'_, impl Journal>) -> bool {
        let mut left = at_most;
        let numbers: Vec<u32> = self.queues.keys().copied().collect();
        for queue in numbers {
            while let Some(number) = self.queues.get(&queue).and_then(|q| q.due(turn.now_ms)) {
                if left == 0 {
                    return true;
                }
                left -= 1;
                self.pass_time(queue, number, turn);
            }
        }
        false
    }

    fn pass_time(&mut self, queue: u32, number: u64, turn: &mut Turn<'_, impl Journal>) {
        let item = self.queues.get(&queue).and_then(|q| q.items().get(number));
        if item.is_some_and(|item| item.state == ItemState::Leased) {
            let terms = NackTerms { reason: Some("the lease expired"), ..NackTerms::default() };
            self.give_back(queue, number, Return::Expired, &terms, turn);
            return;
        }
        // The record of the time says that the delay has ended.
        self.tell_time(turn);
        if let Some(q) = self.queues.get_mut(&queue) {
            q.shift(number, ItemState::Ready, None);
        }
        self.touch(queue);
    }

    /// Releases the leases of connections to an earlier process.
    pub fn release_bound(&mut self, turn: &mut Turn<'_, impl Journal>) {
        let bound: Vec<(u32, u64)> = self
            .queues
            .values()
            .flat_map(|q| q.bound().into_iter().map(|number| (q.number, number)))
            .collect();
        for (queue, number) in bound {
            let how = Return::Released;
            self.write(&Record::Returned { queue, number, how, due_ms: None, reason: None }, turn);
        }
    }
}
