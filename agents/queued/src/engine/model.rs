//! Tests the state machine against a slow and obvious model: one list, searched from the front.

use super::contract::{Limits, NewItem};
use super::core::{Core, Journal, LeaseTerms, NackTerms, Turn};
use super::item::{ItemId, Place, State, Token};
use super::policy::{Policy, PolicyChange};
use super::queue::{Queue, Verdict, When};
use super::record::Record;
use proptest::prelude::*;
use std::collections::BTreeMap;

const QUEUES: [&str; 3] = ["a", "b", "dead"];
/// Key memory is only ever shortened: forgotten keys do not come back, but the model would not know.
const KEY_MEMORY_MS: u64 = 2000;
const LIMITS: Limits = Limits {
    queues_max: 10,
    checkpoint_bytes_max: u64::MAX,
    memory_bytes_max: 1 << 30,
    spills: false,
    answer_bytes_max: 1 << 20,
};

/// Keeps the records as bytes, each as a segment of its own.
#[derive(Default)]
pub(super) struct Tape(Vec<Vec<u8>>);

impl Journal for Tape {
    fn append(&mut self, record: &Record<'_>) -> Place {
        let mut bytes = Vec::new();
        let offset = record.encode(&mut bytes).try_into().unwrap();
        self.0.push(bytes);
        Place { segment: (self.0.len() - 1).try_into().unwrap(), offset }
    }

    fn read(&mut self, place: Place, len: u32) -> std::io::Result<Box<[u8]>> {
        let from = place.offset as usize;
        Ok(self.0[place.segment as usize][from..from + len as usize].into())
    }
}

impl Tape {
    /// Returns a core that has read the whole tape.
    pub(super) fn replay(&self) -> Core {
        let mut core = Core::reading(7, 1);
        for (segment, bytes) in self.0.iter().enumerate() {
            for record in Record::decode_all(bytes) {
                let (record, offset) = record.unwrap();
                let place =
                    Place { segment: segment.try_into().unwrap(), offset: offset.try_into().unwrap() };
                core.apply(&record, place);
            }
        }
        core.finish_reading();
        core
    }
}

#[derive(Clone, Debug)]
struct Thing {
    queue: usize,
    number: u64,
    body: u8,
    key: Option<u8>,
    state: State,
    /// The time at which the item is ready or its lease expires.
    at: u64,
    token: Option<Token>,
    attempts: u32,
}

#[derive(Clone, Debug, Default)]
struct QueueModel {
    exists: bool,
    /// The queue's position in the order of creation, which is also the order in which expiries are
    /// processed.
    serial: usize,
    held: bool,
    sealed: bool,
    seal_used: bool,
    paused: bool,
    /// Items that went to the dead-letter queue in this round.
    moved: u64,
    policy: Policy,
    finished: Vec<(u8, u64, u64)>,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    next: u64,
    things: Vec<Thing>,
    places: [QueueModel; 3],
    made: usize,
}

impl Model {
    fn make(&mut self, queue: usize) {
        if !self.places[queue].exists {
            self.made += 1;
            (self.places[queue].exists, self.places[queue].serial) = (true, self.made);
        }
    }

    fn known(&self, queue: usize, key: u8) -> Option<u64> {
        let alive = self.things.iter().find(|t| t.queue == queue && t.key == Some(key)).map(|t| t.number);
        let memory = self.places[queue].policy.key_memory_ms;
        let fresh = |f: &&(u8, u64, u64)| f.0 == key && f.2 + memory > self.now;
        alive.or_else(|| self.places[queue].finished.iter().rev().find(fresh).map(|f| f.1))
    }

    fn add(&mut self, queue: usize, body: u8, key: Option<u8>, delay: u64) -> u64 {
        let number = self.next + 1;
        self.next = number;
        self.make(queue);
        self.begin_round_if_drained(queue);
        self.places[queue].held = true;
        let state = if delay > 0 { State::Delayed } else { State::Ready };
        let at = self.now + delay;
        self.things.push(Thing { queue, number, body, key, state, at, token: None, attempts: 0 });
        number
    }

    fn begin_round_if_drained(&mut self, queue: usize) {
        if self.verdict(queue) == Verdict::Drained {
            self.places[queue].moved = 0;
        }
    }

    fn push(
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

    fn lease(&mut self, queue: usize, max: usize, lease_ms: u64) -> Option<Vec<(u64, u32, u8)>> {
        if !self.places[queue].exists {
            return None;
        }
        if self.places[queue].paused {
            return Some(Vec::new());
        }
        let mut ready: Vec<&mut Thing> =
            self.things.iter_mut().filter(|t| t.queue == queue && t.state == State::Ready).collect();
        ready.sort_by_key(|t| t.number);
        let leased = ready.into_iter().take(max).map(|t| {
            (t.state, t.at, t.attempts) = (State::Leased, self.now + lease_ms, t.attempts + 1);
            (t.number, t.attempts, t.body)
        });
        Some(leased.collect())
    }

    fn holder(&self, queue: usize, number: u64, token: Token) -> Option<usize> {
        let holds = |t: &Thing| t.queue == queue && t.number == number && t.token == Some(token);
        self.things.iter().position(|t| holds(t) && t.state == State::Leased)
    }

    fn ack(&mut self, queue: usize, number: u64, token: Token) -> bool {
        let Some(at) = self.holder(queue, number, token) else { return false };
        let gone = self.things.remove(at);
        if let Some(key) = gone.key {
            self.places[queue].finished.push((key, number, self.now));
        }
        true
    }

    fn give_back(&mut self, at: usize, counted: bool, delay: Option<u64>, release: bool) -> State {
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
                None => self.things[at].state = State::Dead,
            }
            return State::Dead;
        }
        let mut rest = policy.backoff_max_ms.min(policy.backoff_ms << (thing.attempts - 1));
        rest = delay.unwrap_or(rest);
        let thing = &mut self.things[at];
        thing.token = None;
        if release {
            (thing.attempts, rest) = (thing.attempts - 1, 0);
        }
        (thing.state, thing.at) = (if rest > 0 { State::Delayed } else { State::Ready }, self.now + rest);
        thing.state
    }

    fn chosen(&self, queue: usize, numbers: &[u64]) -> Vec<u64> {
        let is_chosen =
            |t: &&Thing| t.queue == queue && t.state != State::Leased && numbers.contains(&t.number);
        let mut chosen: Vec<u64> = self.things.iter().filter(is_chosen).map(|t| t.number).collect();
        chosen.sort_unstable();
        chosen
    }

    fn delete(&mut self, queue: usize, numbers: &[u64]) -> Option<u64> {
        let chosen = self.chosen(queue, numbers);
        self.things.retain(|t| !chosen.contains(&t.number));
        self.places[queue].exists.then_some(chosen.len() as u64)
    }

    fn move_to(&mut self, queue: usize, to: usize, numbers: &[u64]) -> Option<u64> {
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
            let rest = if gone.state == State::Delayed { gone.at - self.now } else { 0 };
            self.add(to, gone.body, gone.key, rest);
        }
        Some(chosen.len() as u64)
    }

    fn pass(&mut self, ms: u64) {
        // Expiries cause back-offs and dead letters, which depend on when and in which order they happen.
        self.now += ms;
        loop {
            let due = |t: &Thing| matches!(t.state, State::Delayed | State::Leased) && t.at <= self.now;
            let mut all: Vec<&Thing> = self.things.iter().filter(|t| due(t)).collect();
            all.sort_by_key(|t| (self.places[t.queue].serial, t.at, t.number));
            let Some(first) = all.first() else { return };
            let at = self.things.iter().position(|t| t.number == first.number).unwrap();
            match self.things[at].state {
                State::Leased => {
                    self.give_back(at, true, None, false);
                }
                _ => self.things[at].state = State::Ready,
            }
        }
    }

    fn verdict(&self, queue: usize) -> Verdict {
        let busy = self.things.iter().any(|t| t.queue == queue && t.state != State::Dead);
        let place = &self.places[queue];
        match (busy, place.sealed, place.held) {
            (true, _, _) => Verdict::Working,
            (false, true, _) => Verdict::Drained,
            (false, false, false) => Verdict::Pending,
            (false, false, true) if place.seal_used => Verdict::Working,
            (false, false, true) => Verdict::Drained,
        }
    }

    fn failed(&self, queue: usize) -> u64 {
        let dead = self.things.iter().filter(|t| t.queue == queue && t.state == State::Dead).count() as u64;
        dead + self.places[queue].moved
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { queue: usize, items: Vec<(u8, Option<u8>, u64)>, seal: bool },
    Lease { queue: usize, max: usize, lease_ms: u64 },
    Ack { lease: usize },
    Nack { lease: usize, delay: Option<u64>, release: bool },
    Extend { lease: usize, lease_ms: u64 },
    Pass { ms: u64 },
    Seal { queue: usize, sealed: bool },
    Pause { queue: usize, paused: bool },
    Chosen { queue: usize, to: Option<usize>, numbers: Vec<u64> },
    Drain { queue: usize },
    Delete { queue: usize },
    Configure { queue: usize, attempts: u32, backoff: u64, dead: bool },
    Dead { queue: usize, redrive: bool },
    Rewrite { queue: usize },
    Checkpoint,
    Compact,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let item = (any::<u8>(), prop::option::weighted(0.4, 0u8..6), prop_oneof![4 => Just(0), 1 => 1u64..3000]);
    let items = prop::collection::vec(item, 0..4);
    let queue = 0usize..3;
    prop_oneof![
        6 => (queue.clone(), items, prop::bool::weighted(0.05)).prop_map(|(queue, items, seal)| Step::Push { queue, items, seal }),
        6 => (queue.clone(), 1usize..4, 100u64..4000).prop_map(|(queue, max, lease_ms)| Step::Lease { queue, max, lease_ms }),
        5 => (0usize..12).prop_map(|lease| Step::Ack { lease }),
        4 => (0usize..12, prop::option::of(0u64..2000), any::<bool>()).prop_map(|(lease, delay, release)| Step::Nack { lease, delay, release }),
        1 => (0usize..12, 100u64..4000).prop_map(|(lease, lease_ms)| Step::Extend { lease, lease_ms }),
        4 => (0u64..2500).prop_map(|ms| Step::Pass { ms }),
        1 => (queue.clone(), any::<bool>()).prop_map(|(queue, sealed)| Step::Seal { queue, sealed }),
        1 => (queue.clone(), any::<bool>()).prop_map(|(queue, paused)| Step::Pause { queue, paused }),
        1 => (queue.clone(), prop::option::of(0usize..3), prop::collection::vec(1u64..30, 0..6))
            .prop_map(|(queue, to, numbers)| Step::Chosen { queue, to, numbers }),
        1 => queue.clone().prop_map(|queue| Step::Drain { queue }),
        1 => queue.clone().prop_map(|queue| Step::Delete { queue }),
        1 => (0usize..2, 0u32..4, 0u64..500, any::<bool>())
            .prop_map(|(queue, attempts, backoff, dead)| Step::Configure { queue, attempts, backoff, dead }),
        1 => (queue.clone(), any::<bool>()).prop_map(|(queue, redrive)| Step::Dead { queue, redrive }),
        1 => queue.prop_map(|queue| Step::Rewrite { queue }),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

struct Both {
    core: Core,
    tape: Tape,
    model: Model,
    /// The start of the last checkpoint on the tape.
    checkpoint: usize,
    /// All leases ever made, the newest first.
    leases: Vec<(usize, ItemId, Token)>,
}

impl Both {
    fn step(&mut self, step: Step) {
        let now_ms = self.model.now;
        let lease_at = |n: usize| self.leases.get(n).copied();
        let (core, model) = (&mut self.core, &mut self.model);
        let turn = &mut Turn { now_ms, limits: &LIMITS, journal: &mut self.tape };
        match step {
            Step::Push { queue, items, seal } => {
                let new = items.iter().map(|(body, key, delay_ms)| NewItem {
                    body: [*body].into(),
                    key: key.map(|key| key.to_string().into()),
                    content_type: None,
                    delay_ms: *delay_ms,
                });
                let got = core.push(QUEUES[queue], new.collect(), seal, turn).ok();
                let got =
                    got.map(|ids| ids.into_iter().map(|(id, known)| (id.number, known)).collect::<Vec<_>>());
                assert_eq!(got, model.push(queue, &items, seal));
            }
            Step::Lease { queue, max, lease_ms } => {
                let terms = LeaseTerms { lease_ms: Some(lease_ms), ..LeaseTerms::default() };
                let got = core.lease(QUEUES[queue], max, &terms, turn).ok();
                let plain = got.as_ref().map(|items| {
                    items.iter().map(|item| (item.id.number, item.attempt, item.body[0])).collect::<Vec<_>>()
                });
                assert_eq!(plain, model.lease(queue, max, lease_ms));
                for item in got.unwrap_or_default() {
                    let thing = model.things.iter_mut().find(|t| t.number == item.id.number).unwrap();
                    thing.token = Some(item.token);
                    self.leases.insert(0, (queue, item.id, item.token));
                }
            }
            Step::Ack { lease } => {
                let Some((queue, id, token)) = lease_at(lease) else { return };
                assert_eq!(core.ack(QUEUES[queue], id, token, turn), model.ack(queue, id.number, token));
            }
            Step::Nack { lease, delay, release } => {
                let Some((queue, id, token)) = lease_at(lease) else { return };
                let terms = NackTerms { delay_ms: delay, reason: Some("r"), release };
                let got = core.nack(QUEUES[queue], id, token, &terms, turn);
                let at = model.holder(queue, id.number, token);
                assert_eq!(got, at.map(|at| model.give_back(at, true, delay, release)));
            }
            Step::Extend { lease, lease_ms } => {
                let Some((queue, id, token)) = lease_at(lease) else { return };
                let got = core.extend(QUEUES[queue], id, token, Some(lease_ms), turn);
                let at = model.holder(queue, id.number, token);
                assert_eq!(got.is_some(), at.is_some());
                if let Some(at) = at {
                    model.things[at].at = now_ms + lease_ms;
                }
            }
            Step::Pass { ms } => {
                model.pass(ms);
                turn.now_ms = model.now;
                while core.tick(2, turn) {}
            }
            Step::Seal { queue, sealed } => {
                let expected = sealed || model.places[queue].exists;
                assert_eq!(core.seal(QUEUES[queue], sealed, turn).is_ok(), expected);
                if expected {
                    model.make(queue);
                    if !sealed && model.places[queue].sealed {
                        model.begin_round_if_drained(queue);
                    }
                    let place = &mut model.places[queue];
                    (place.sealed, place.seal_used) = (sealed, place.seal_used || sealed);
                }
            }
            Step::Pause { queue, paused } => {
                assert_eq!(core.pause(QUEUES[queue], paused, turn).is_ok(), model.places[queue].exists);
                model.places[queue].paused = paused && model.places[queue].exists;
            }
            Step::Chosen { queue, to, numbers } => {
                let ids: Vec<ItemId> = numbers.iter().map(|number| core.id(*number)).collect();
                match to {
                    None => {
                        let got = core.delete_items(QUEUES[queue], &ids, turn).ok();
                        assert_eq!(got, model.delete(queue, &numbers));
                    }
                    Some(to) => {
                        let got = core.move_items(QUEUES[queue], QUEUES[to], &ids, turn).ok();
                        assert_eq!(got, model.move_to(queue, to, &numbers));
                    }
                }
            }
            Step::Drain { queue } => {
                let here = |t: &Thing| t.queue == queue && matches!(t.state, State::Ready | State::Delayed);
                let before = model.things.len();
                model.things.retain(|t| !here(t));
                let removed = (before - model.things.len()) as u64;
                let expected = model.places[queue].exists.then_some(removed);
                assert_eq!(core.drain(QUEUES[queue], turn).ok(), expected);
            }
            Step::Delete { queue } => {
                assert_eq!(core.delete(QUEUES[queue], turn).is_ok(), model.places[queue].exists);
                model.places[queue] = QueueModel::default();
                model.things.retain(|t| t.queue != queue);
            }
            Step::Configure { queue, attempts, backoff, dead } => {
                let change = PolicyChange {
                    max_attempts: Some(attempts),
                    backoff_ms: Some(backoff),
                    key_memory_ms: Some(KEY_MEMORY_MS),
                    dead_letter_queue: Some(dead.then(|| "dead".into())),
                    ..PolicyChange::default()
                };
                let created = core.configure(QUEUES[queue], &change, turn).unwrap();
                assert_eq!(created, !model.places[queue].exists);
                model.make(queue);
                let place = &mut model.places[queue];
                place.policy = place.policy.changed(&change).unwrap();
            }
            Step::Dead { queue, redrive } => {
                let dead = |t: &Thing| t.queue == queue && t.state == State::Dead;
                let count = model.things.iter().filter(|t| dead(t)).count() as u64;
                let expected = model.places[queue].exists.then_some(count);
                let got = match redrive {
                    true => core.redrive_dead(QUEUES[queue], None, turn),
                    false => core.delete_dead(QUEUES[queue], None, turn),
                };
                assert_eq!(got.ok(), expected);
                if redrive {
                    for thing in model.things.iter_mut().filter(|t| dead(t)) {
                        (thing.state, thing.attempts, thing.token) = (State::Ready, 0, None);
                    }
                } else {
                    model.things.retain(|t| !dead(t));
                }
            }
            Step::Rewrite { queue } => {
                let Ok(q) = core.queue(QUEUES[queue]) else { return };
                let number = q.number;
                let items: Vec<_> =
                    q.items().iter().map(|i| (i.number, i.place, i.body.clone().unwrap())).collect();
                for (item, place, body) in items {
                    assert!(core.rewrite(number, item, place, &body, turn.journal));
                    assert!(!core.rewrite(number, item, place, &body, turn.journal), "twice from one place");
                }
                core.rewrite_keys(u32::MAX, turn);
            }
            Step::Checkpoint => {
                self.checkpoint = turn.journal.0.len();
                core.checkpoint(turn.journal);
            }
            // Records before the last checkpoint are rewritten where they still count, then removed.
            Step::Compact => {
                let before = |place: Place| (place.segment as usize) < self.checkpoint;
                let items = core.queues().flat_map(|q| q.items().iter().map(|item| (q.number, item.clone())));
                let items: Vec<_> = items.filter(|(_, item)| before(item.place)).collect();
                for (queue, item) in items {
                    let body = item.body.unwrap();
                    assert!(core.rewrite(queue, item.number, item.place, &body, turn.journal));
                }
                if self.checkpoint > 0 {
                    core.rewrite_keys((self.checkpoint - 1).try_into().unwrap(), turn);
                }
                turn.journal.0[..self.checkpoint].fill(Vec::new());
            }
            Step::Restart => {
                *core = self.tape.replay();
                let turn = &mut Turn { now_ms, limits: &LIMITS, journal: &mut self.tape };
                while core.tick(100, turn) {}
            }
        }
    }

    fn compare(&self) {
        assert_eq!(self.core.imbalances().collect::<Vec<_>>(), []);
        let mut usage = (0, 0);
        for (queue, name) in QUEUES.iter().enumerate() {
            let place = &self.model.places[queue];
            let Ok(q) = self.core.queue(name) else {
                assert!(!place.exists, "{name} is not there");
                continue;
            };
            assert!(place.exists, "{name} should not be there");
            assert_eq!(q.verdict(), self.model.verdict(queue), "{name}");
            assert_eq!(q.failed(), self.model.failed(queue), "{name}");
            assert_eq!(q.paused, place.paused, "{name}");
            let mut things: Vec<_> = self.model.things.iter().filter(|t| t.queue == queue).collect();
            things.sort_by_key(|t| t.number);
            let items = q.items().iter().map(|i| (i.number, i.state, i.attempts, i.body.clone().unwrap()[0]));
            let expected: Vec<_> = things.iter().map(|t| (t.number, t.state, t.attempts, t.body)).collect();
            assert_eq!(items.collect::<Vec<_>>(), expected, "{name}");
            for state in State::ALL {
                assert_eq!(q.tally(state), things.iter().filter(|t| t.state == state).count() as u64);
            }
            assert_eq!(q.body_bytes(), things.len() as u64);
            let next = things.iter().find(|t| t.state == State::Ready).map(|t| t.number);
            assert_eq!(q.next_ready(), next);
            usage = (usage.0 + things.len() as u64, usage.1 + things.len() as u64);
        }
        assert_eq!((self.core.usage.items, self.core.usage.memory_bytes), usage);
        assert_eq!(self.core.usage.live.values().sum::<u64>(), self.core.usage.live_bytes);
    }
}

/// Formats every field of a queue that a fold over the log must reproduce.
fn fields(core: &Core) -> Vec<String> {
    let one = |q: &Queue| {
        let items =
            q.items().iter().map(|item| (item.clone(), q.when(item.number).map(|w| w.until(w.at_ms))));
        let items =
            items.map(|(item, when)| format!("{item:?} {:?}", when.map(|w| When { held_ms: None, ..w })));
        let keys: Vec<_> = (0u8..6).map(|key| q.known(&key.to_string())).collect();
        let tallies = State::ALL.map(|state| q.tally(state));
        let flags = (q.sealed, q.seal_used, q.held, q.paused, q.counts_drains);
        let order = (q.next_ready(), q.next_due_ms(), q.oldest_ready_ms());
        let counts = (q.count_next, q.moved_in_round, q.body_bytes(), tallies, q.counters);
        let about = format!("{} {:?} {flags:?} {counts:?} {order:?} {keys:?}", q.name, q.policy);
        std::iter::once(about).chain(items).collect::<Vec<_>>().join("\n")
    };
    let usage = format!("{:?} {:?}", core.usage, core.epoch);
    let mut fields: Vec<_> = core.queues().map(one).chain([usage]).collect();
    fields.sort_unstable();
    fields
}

/// The queues by number. One that is only made while time passes may have another number elsewhere: the log
/// names the number with its first record.
fn numbers(core: &Core) -> BTreeMap<u32, String> {
    core.queues().map(|q| (q.number, q.name.to_string())).collect()
}

impl Both {
    /// A later fold over the log gives the same state, once the same time has passed for both.
    fn fold_and_compare(&mut self) {
        let mut folded = self.tape.replay();
        assert_eq!(numbers(&self.core), numbers(&folded));
        for core in [&mut self.core, &mut folded] {
            let mut later =
                Turn { now_ms: self.model.now + 777, limits: &LIMITS, journal: &mut Tape::default() };
            while core.tick(3, &mut later) {}
            core.rewrite_keys(0, &mut later);
        }
        assert_eq!(fields(&self.core), fields(&folded));
        assert!(folded.latest_ms <= self.core.latest_ms, "the clock would go backwards");
    }
}

fn run(steps: Vec<Step>) {
    let mut both = Both {
        core: Core::new(7, 1),
        tape: Tape::default(),
        model: Model::default(),
        checkpoint: 0,
        leases: Vec::new(),
    };
    both.model.now = 1_000_000;
    for step in steps {
        both.step(step);
        both.compare();
    }
    both.fold_and_compare();
}

/// Found by the model: the push was in a removed segment, the ack in one that is still there.
#[test]
fn key_of_an_acked_item_survives_compaction() {
    let push = || Step::Push { queue: 1, items: vec![(0, Some(4), 0)], seal: false };
    run(vec![
        push(),
        Step::Configure { queue: 1, attempts: 0, backoff: 0, dead: false },
        Step::Lease { queue: 1, max: 1, lease_ms: 100 },
        Step::Checkpoint,
        Step::Ack { lease: 0 },
        Step::Compact,
        Step::Restart,
        push(),
    ]);
}

/// The rewritten key comes after younger ones in the log, and must be forgotten before them.
#[test]
fn rewritten_key_is_forgotten_in_time() {
    let push = |key| Step::Push { queue: 1, items: vec![(0, Some(key), 0)], seal: false };
    let lease = || Step::Lease { queue: 1, max: 1, lease_ms: 100 };
    run(vec![
        Step::Configure { queue: 1, attempts: 0, backoff: 0, dead: false },
        push(4),
        lease(),
        Step::Ack { lease: 0 },
        Step::Checkpoint,
        Step::Pass { ms: KEY_MEMORY_MS / 2 },
        push(5),
        lease(),
        Step::Ack { lease: 0 },
        Step::Compact,
        Step::Restart,
        Step::Pass { ms: KEY_MEMORY_MS / 2 },
        push(4),
    ]);
}

/// Found by the model: the key was still known when the push was admitted, and forgotten when the item was
/// made.
#[test]
fn a_key_that_is_forgotten_opens_no_sealed_queue() {
    let push = |seal| Step::Push { queue: 1, items: vec![(0, Some(4), 0)], seal };
    run(vec![
        push(true),
        Step::Lease { queue: 1, max: 1, lease_ms: 100 },
        Step::Ack { lease: 0 },
        Step::Configure { queue: 1, attempts: 0, backoff: 0, dead: false },
        Step::Pass { ms: KEY_MEMORY_MS },
        push(false),
    ]);
}

proptest! {
    // Failures are printed in full; a file of seeds would outlive the strategy that made them.
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_does_what_the_obvious_model_does(steps in prop::collection::vec(step(), 1..80)) {
        run(steps);
    }
}
