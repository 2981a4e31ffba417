//! Checks the promises of the core in thousands of seeded histories in virtual time. They have producers,
//! workers that crash, leases that expire, and a server that loses power at any moment.

use queued::engine::contract::{Limits, NewItem};
use queued::engine::core::{Core, Journal, LeaseTerms, NackTerms, Turn};
use queued::engine::item::{BodyPlace, ItemId, ItemState, Token};
use queued::engine::policy::PolicyChange;
use queued::engine::queue::Verdict;
use queued::engine::record::Record;
use std::collections::{BTreeMap, BTreeSet};

const LIMITS: Limits = Limits {
    queues_max: 10,
    checkpoint_bytes_max: u64::MAX,
    memory_bytes_max: 1 << 30,
    spills: false,
    answer_bytes_max: 1 << 20,
};
const ROUNDS: u64 = 4000;

/// A log of groups, of which only the first ones are on the disk.
#[derive(Default)]
struct Disk {
    groups: Vec<Vec<u8>>,
    pending: Vec<u8>,
}

impl Journal for Disk {
    fn append(&mut self, record: &Record<'_>) -> BodyPlace {
        record.encode(&mut self.pending);
        BodyPlace::default()
    }

    fn read(&mut self, _: BodyPlace, _: u32) -> std::io::Result<Box<[u8]>> {
        unreachable!("all bodies are in memory")
    }
}

struct World {
    random: fastrand::Rng,
    now: u64,
    core: Core,
    disk: Disk,
    /// Pushes in the pending group, and those that were acknowledged.
    unanswered_pushes: Vec<ItemId>,
    kept: BTreeSet<ItemId>,
    /// Acks in the pending group, and those that were acknowledged.
    unanswered_acks: Vec<ItemId>,
    done: BTreeSet<ItemId>,
    /// The leases that workers hold, or believe to hold.
    held: Vec<(ItemId, Token)>,
    /// Counted leases of each item, on the disk and now.
    attempts: BTreeMap<ItemId, u32>,
    attempts_kept: BTreeMap<ItemId, u32>,
    /// The newest item that was leased for the first time.
    newest: u64,
    max_attempts: u32,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let max_attempts = random.u32(0..5);
        let mut world = World {
            now: 1_000_000,
            core: Core::new(1, seed),
            disk: Disk::default(),
            unanswered_pushes: Vec::new(),
            kept: BTreeSet::new(),
            unanswered_acks: Vec::new(),
            done: BTreeSet::new(),
            held: Vec::new(),
            attempts: BTreeMap::new(),
            attempts_kept: BTreeMap::new(),
            newest: 0,
            max_attempts,
            random,
        };
        let change = PolicyChange {
            max_attempts: Some(max_attempts),
            backoff_ms: Some(world.random.u64(0..100)),
            ..PolicyChange::default()
        };
        world.turn(|core, turn| core.configure("q", &change, turn)).unwrap();
        world.commit();
        world
    }

    fn turn<R>(&mut self, act: impl FnOnce(&mut Core, &mut Turn<'_, Disk>) -> R) -> R {
        act(&mut self.core, &mut Turn { now_ms: self.now, limits: &LIMITS, journal: &mut self.disk })
    }

    fn commit(&mut self) {
        let group = std::mem::take(&mut self.disk.pending);
        self.disk.groups.push(group);
        self.kept.extend(self.unanswered_pushes.drain(..));
        self.done.extend(self.unanswered_acks.drain(..));
        self.attempts_kept = self.attempts.clone();
    }

    /// Simulates a power loss: the pending group may or may not be on the disk, but no request in it was
    /// answered.
    fn crash(&mut self) {
        if self.random.bool() {
            let group = std::mem::take(&mut self.disk.pending);
            self.disk.groups.push(group);
            self.attempts_kept = self.attempts.clone();
        }
        self.disk.pending.clear();
        self.unanswered_pushes.clear();
        self.unanswered_acks.clear();
        self.attempts = self.attempts_kept.clone();
        self.newest = 0;
        self.core = Core::reading(1, self.random.u64(..));
        for group in &self.disk.groups {
            for record in Record::decode_all(group) {
                self.core.apply(&record.unwrap().0, BodyPlace::default());
            }
        }
        self.core.finish_reading();
    }

    fn push(&mut self) {
        let count = self.random.usize(1..4);
        let items =
            (0..count).map(|_| NewItem { body: b"x".as_slice().into(), ..NewItem::default() }).collect();
        let ids = self.turn(|core, turn| core.push("q", items, false, turn)).unwrap();
        self.unanswered_pushes.extend(ids.into_iter().map(|(id, _)| id));
    }

    fn lease(&mut self) {
        let terms = LeaseTerms { lease_ms: Some(self.random.u64(100..2000)), ..LeaseTerms::default() };
        let max = self.random.usize(1..4);
        let items = self.turn(|core, turn| core.lease("q", max, &terms, turn)).unwrap();
        for item in items {
            assert!(!self.done.contains(&item.id), "an acked item came back");
            let attempts = self.attempts.entry(item.id).or_default();
            *attempts += 1;
            assert_eq!(item.attempt, *attempts, "attempts are counted right");
            assert!(self.max_attempts == 0 || item.attempt <= self.max_attempts, "one lease too many");
            if item.attempt == 1 && item.id.number > self.newest {
                self.newest = item.id.number;
            }
            self.held.push((item.id, item.token));
        }
        // First in, first out: an item that is ready for its first lease was pushed later than every item
        // leased before.
        let ready = self.core.queue("q").unwrap().next_ready();
        let first = ready.filter(|number| !self.attempts.contains_key(&self.core.id(*number)));
        assert!(
            first.is_none_or(|number| number > self.newest),
            "{first:?} was overtaken by {}",
            self.newest
        );
    }

    fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.random.usize(0..self.held.len());
        let (id, token) = self.held.swap_remove(at);
        match self.random.u8(0..10) {
            0..5 => {
                let acked = self.turn(|core, turn| core.ack("q", id, token, turn));
                self.unanswered_acks.extend(acked.then_some(id));
            }
            5 | 6 => {
                let terms = NackTerms { delay_ms: None, reason: Some("r"), release: false };
                self.turn(|core, turn| core.nack("q", id, token, &terms, turn));
            }
            7 => {
                let terms = NackTerms { release: true, ..NackTerms::default() };
                if self.turn(|core, turn| core.nack("q", id, token, &terms, turn)).is_some() {
                    *self.attempts.get_mut(&id).unwrap() -= 1;
                }
            }
            8 => {
                let extended = self.turn(|core, turn| core.extend("q", id, token, Some(1000), turn));
                self.held.extend(extended.map(|_| (id, token)));
            }
            // The worker crashes silently.
            _ => {}
        }
    }

    fn pass(&mut self) {
        self.now += self.random.u64(0..800);
        while self.turn(|core, turn| core.tick(3, turn)) {}
    }

    /// Lets workers without faults finish the rest; then every item must be accounted for.
    fn finish(&mut self) {
        self.commit();
        while self.core.queue("q").is_ok_and(|queue| queue.backlog() > 0) {
            self.now += 500;
            while self.turn(|core, turn| core.tick(1000, turn)) {}
            self.lease();
            for (id, token) in std::mem::take(&mut self.held) {
                if self.turn(|core, turn| core.ack("q", id, token, turn)) {
                    self.unanswered_acks.push(id);
                }
            }
            self.commit();
        }
        let queue = self.core.queue("q").unwrap();
        assert!(self.kept.is_empty() || queue.verdict() == Verdict::Drained);
        for id in &self.kept {
            let dead = queue.items().get(id.number).is_some_and(|item| item.state == ItemState::Dead);
            let done = self.done.contains(id) || queue.items().get(id.number).is_none();
            assert!(done || dead, "an acknowledged push was lost");
            assert!(
                dead || self.attempts.get(id).is_some_and(|attempts| *attempts > 0),
                "gone without a lease"
            );
        }
    }
}

#[test]
fn random_histories_lose_and_repeat_nothing() {
    for seed in 0..ROUNDS {
        let round = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..world.random.usize(10..150) {
                match world.random.u8(0..20) {
                    0..5 => world.push(),
                    5..10 => world.lease(),
                    10..14 => world.settle(),
                    14..16 => world.pass(),
                    16..19 => world.commit(),
                    _ => world.crash(),
                }
            }
            world.finish();
        });
        assert!(round.is_ok(), "seed {seed}");
    }
}
