//! The model: the items of all queues in one list, searched from the front.

use super::QUEUES;
use crate::engine::item::{ItemState, Token};
use crate::engine::policy::Policy;
use crate::engine::queue::Verdict;

#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) queue: usize,
    pub(super) number: u64,
    pub(super) body: u8,
    pub(super) key: Option<u8>,
    pub(super) state: ItemState,
    /// The time at which the item is ready or its lease expires.
    pub(super) at: u64,
    pub(super) token: Option<Token>,
    pub(super) attempts: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct QueueModel {
    pub(super) exists: bool,
    /// The queue's position in the order of creation, which is also the order in which expiries are
    /// processed.
    pub(super) serial: usize,
    pub(super) held: bool,
    pub(super) sealed: bool,
    pub(super) seal_used: bool,
    pub(super) paused: bool,
    /// Items that went to the dead-letter queue in this round.
    pub(super) moved: u64,
    pub(super) policy: Policy,
    pub(super) finished: Vec<(u8, u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    pub(super) next: u64,
    pub(super) things: Vec<Thing>,
    pub(super) places: [QueueModel; 3],
    pub(super) made: usize,
}

impl Model {
    pub(super) fn make(&mut self, queue: usize) {
        if !self.places[queue].exists {
            self.made += 1;
            (self.places[queue].exists, self.places[queue].serial) = (true, self.made);
        }
    }

    pub(super) fn known(&self, queue: usize, key: u8) -> Option<u64> {
        let alive = self.things.iter().find(|t| t.queue == queue && t.key == Some(key)).map(|t| t.number);
        let memory = self.places[queue].policy.key_memory_ms;
        let fresh = |f: &&(u8, u64, u64)| f.0 == key && f.2 + memory > self.now;
        alive.or_else(|| self.places[queue].finished.iter().rev().find(fresh).map(|f| f.1))
    }

    pub(super) fn add(&mut self, queue: usize, body: u8, key: Option<u8>, delay: u64) -> u64 {
        let number = self.next + 1;
        self.next = number;
        self.make(queue);
        self.begin_round_if_drained(queue);
        self.places[queue].held = true;
        let state = if delay > 0 { ItemState::Delayed } else { ItemState::Ready };
        let at = self.now + delay;
        self.things.push(Thing { queue, number, body, key, state, at, token: None, attempts: 0 });
        number
    }

    pub(super) fn begin_round_if_drained(&mut self, queue: usize) {
        if self.verdict(queue) == Verdict::Drained {
            self.places[queue].moved = 0;
        }
    }

    pub(super) fn push(
        &mut self,
        queue: usize,
        items: &[(u8, Option<u8>, u64)],
        seal: bool,
    ) -> Option<Vec<(u64, bool)>> {
        let all_known =
            items.iter().all(|(_, key, _)| key.is_some_and(|key| self.known(queue, key).is_some()));
        if self.places[queue].sealed && !all_known {
            return None;
        }
        self.make(queue);
        let ids = items.iter().map(|&(body, key, delay)| match key.and_then(|key| self.known(queue, key)) {
            Some(number) => (number, true),
            None => (self.add(queue, body, key, delay), false),
        });
        let ids = ids.collect();
        if seal {
            (self.places[queue].sealed, self.places[queue].seal_used) = (true, true);
        }
        Some(ids)
    }

    pub(super) fn lease(&mut self, queue: usize, max: usize, lease_ms: u64) -> Option<Vec<(u64, u32, u8)>> {
        if !self.places[queue].exists {
            return None;
        }
        if self.places[queue].paused {
            return Some(Vec::new());
        }
        let mut ready: Vec<&mut Thing> =
            self.things.iter_mut().filter(|t| t.queue == queue && t.state == ItemState::Ready).collect();
        ready.sort_by_key(|t| t.number);
        let leased = ready.into_iter().take(max).map(|t| {
            (t.state, t.at, t.attempts) = (ItemState::Leased, self.now + lease_ms, t.attempts + 1);
            (t.number, t.attempts, t.body)
        });
        Some(leased.collect())
    }

    pub(super) fn holder(&self, queue: usize, number: u64, token: Token) -> Option<usize> {
        let holds = |t: &Thing| t.queue == queue && t.number == number && t.token == Some(token);
        self.things.iter().position(|t| holds(t) && t.state == ItemState::Leased)
    }

    pub(super) fn ack(&mut self, queue: usize, number: u64, token: Token) -> bool {
        let Some(at) = self.holder(queue, number, token) else { return false };
        let gone = self.things.remove(at);
        if let Some(key) = gone.key {
            self.places[queue].finished.push((key, number, self.now));
        }
        true
    }

    pub(super) fn give_back(
        &mut self,
        at: usize,
        counted: bool,
        delay: Option<u64>,
        release: bool,
    ) -> ItemState {
        let thing = &self.things[at];
        let policy = self.places[thing.queue].policy.clone();
        if !release && counted && policy.max_attempts > 0 && thing.attempts >= policy.max_attempts {
            let target = QUEUES.iter().position(|name| Some(*name) == policy.dead_letter_queue.as_deref());
            match target.filter(|&target| target != thing.queue && !self.places[target].sealed) {
                Some(target) => {
                    let gone = self.things.remove(at);
                    self.places[gone.queue].moved += 1;
                    self.add(target, gone.body, None, 0);
                }
                None => self.things[at].state = ItemState::Dead,
            }
            return ItemState::Dead;
        }
        let mut rest = policy.backoff_max_ms.min(policy.backoff_ms << (thing.attempts - 1));
        rest = delay.unwrap_or(rest);
        let thing = &mut self.things[at];
        thing.token = None;
        if release {
            (thing.attempts, rest) = (thing.attempts - 1, 0);
        }
        (thing.state, thing.at) =
            (if rest > 0 { ItemState::Delayed } else { ItemState::Ready }, self.now + rest);
        thing.state
    }

    pub(super) fn chosen(&self, queue: usize, numbers: &[u64]) -> Vec<u64> {
        let is_chosen =
            |t: &&Thing| t.queue == queue && t.state != ItemState::Leased && numbers.contains(&t.number);
        let mut chosen: Vec<u64> = self.things.iter().filter(is_chosen).map(|t| t.number).collect();
        chosen.sort_unstable();
        chosen
    }

    pub(super) fn delete(&mut self, queue: usize, numbers: &[u64]) -> Option<u64> {
        let chosen = self.chosen(queue, numbers);
        self.things.retain(|t| !chosen.contains(&t.number));
        self.places[queue].exists.then_some(chosen.len() as u64)
    }

    pub(super) fn move_to(&mut self, queue: usize, to: usize, numbers: &[u64]) -> Option<u64> {
        if queue == to || !self.places[queue].exists {
            return None;
        }
        let mut chosen = self.chosen(queue, numbers);
        chosen.retain(|number| {
            let key = self.things.iter().find(|t| t.number == *number).and_then(|t| t.key);
            key.is_none_or(|key| self.known(to, key).is_none())
        });
        if chosen.is_empty() {
            return Some(0);
        }
        if self.places[to].sealed {
            return None;
        }
        for number in &chosen {
            let at = self.things.iter().position(|t| t.number == *number).unwrap();
            let gone = self.things.remove(at);
            let rest = if gone.state == ItemState::Delayed { gone.at - self.now } else { 0 };
            self.add(to, gone.body, gone.key, rest);
        }
        Some(chosen.len() as u64)
    }

    pub(super) fn pass(&mut self, ms: u64) {
        // Expiries cause back-offs and dead letters, which depend on when and in which order they happen.
        self.now += ms;
        loop {
            let due =
                |t: &Thing| matches!(t.state, ItemState::Delayed | ItemState::Leased) && t.at <= self.now;
            let mut all: Vec<&Thing> = self.things.iter().filter(|t| due(t)).collect();
            all.sort_by_key(|t| (self.places[t.queue].serial, t.at, t.number));
            let Some(first) = all.first() else { return };
            let at = self.things.iter().position(|t| t.number == first.number).unwrap();
            match self.things[at].state {
                ItemState::Leased => {
                    self.give_back(at, true, None, false);
                }
                _ => self.things[at].state = ItemState::Ready,
            }
        }
    }

    pub(super) fn verdict(&self, queue: usize) -> Verdict {
        let busy = self.things.iter().any(|t| t.queue == queue && t.state != ItemState::Dead);
        let place = &self.places[queue];
        match (busy, place.sealed, place.held) {
            (true, _, _) => Verdict::Working,
            (false, true, _) => Verdict::Drained,
            (false, false, false) => Verdict::Pending,
            (false, false, true) if place.seal_used => Verdict::Working,
            (false, false, true) => Verdict::Drained,
        }
    }

    pub(super) fn failed(&self, queue: usize) -> u64 {
        let dead =
            self.things.iter().filter(|t| t.queue == queue && t.state == ItemState::Dead).count() as u64;
        dead + self.places[queue].moved
    }
}
