//! Tests the state machine against a slow and obvious model.

mod folding;
mod list_model;
pub(super) mod tape;

use super::contract::{Limits, NewItem};
use super::core::{Core, LeaseTerms, NackTerms, Turn};
use super::item::{BodyPlace, ItemId, ItemState, Token};
use super::policy::PolicyChange;
use list_model::{Model, QueueModel, Thing};
use proptest::prelude::*;
use tape::Tape;

const QUEUES: [&str; 3] = ["a", "b", "dead"];
/// The tests only shorten the key memory. When it is lengthened, forgotten keys do not come back, which the
/// model does not know.
const KEY_MEMORY_MS: u64 = 2000;
const LIMITS: Limits = Limits {
    queues_max: 10,
    checkpoint_bytes_max: u64::MAX,
    memory_bytes_max: 1 << 30,
    spills: false,
    answer_bytes_max: 1 << 20,
};

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
    /// False after a restart from a tape whose beginning was removed.
    knows_history: bool,
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
                let here =
                    |t: &Thing| t.queue == queue && matches!(t.state, ItemState::Ready | ItemState::Delayed);
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
                let dead = |t: &Thing| t.queue == queue && t.state == ItemState::Dead;
                let count = model.things.iter().filter(|t| dead(t)).count() as u64;
                let expected = model.places[queue].exists.then_some(count);
                let got = match redrive {
                    true => core.redrive_dead(QUEUES[queue], None, turn),
                    false => core.delete_dead(QUEUES[queue], None, turn),
                };
                assert_eq!(got.ok(), expected);
                if redrive {
                    for thing in model.things.iter_mut().filter(|t| dead(t)) {
                        (thing.state, thing.attempts, thing.token) = (ItemState::Ready, 0, None);
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
                core.rewrite_keys(u32::MAX, usize::MAX, turn);
            }
            Step::Checkpoint => {
                self.checkpoint = turn.journal.len();
                core.checkpoint(turn.journal);
            }
            // Records before the last checkpoint are rewritten where they still count, then removed.
            Step::Compact => {
                let before = |place: BodyPlace| (place.segment as usize) < self.checkpoint;
                let items = core.queues().flat_map(|q| q.items().iter().map(|item| (q.number, item.clone())));
                let items: Vec<_> = items.filter(|(_, item)| before(item.place)).collect();
                for (queue, item) in items {
                    let body = item.body.unwrap();
                    assert!(core.rewrite(queue, item.number, item.place, &body, turn.journal));
                }
                if self.checkpoint > 0 {
                    let up_to = (self.checkpoint - 1).try_into().unwrap();
                    while core.rewrite_keys(up_to, 2, turn) {}
                    assert!(
                        core.queues().all(|q| q.keys().finished_in(up_to).is_empty()),
                        "a key stays behind"
                    );
                }
                turn.journal.removed = self.checkpoint;
            }
            Step::Restart => {
                *core = self.tape.replay();
                self.knows_history &= self.tape.removed == 0;
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
            for state in ItemState::ALL {
                assert_eq!(q.tally(state), things.iter().filter(|t| t.state == state).count() as u64);
            }
            assert_eq!(q.body_bytes(), things.len() as u64);
            let next = things.iter().find(|t| t.state == ItemState::Ready).map(|t| t.number);
            assert_eq!(q.next_ready(), next);
            usage = (usage.0 + things.len() as u64, usage.1 + things.len() as u64);
        }
        assert_eq!((self.core.usage.items, self.core.usage.memory_bytes), usage);
        assert_eq!(self.core.usage.live.values().sum::<u64>(), self.core.usage.live_bytes);
    }
}

fn run(steps: Vec<Step>) {
    let mut both = Both {
        core: Core::new(7, 1),
        tape: Tape::default(),
        model: Model::default(),
        checkpoint: 0,
        knows_history: true,
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
