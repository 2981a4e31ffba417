//! Tests the reading of logs that no core wrote, with records in any order and numbers of any size. They are
//! read without harm, and the result can be written and read again.

use super::core::Core;
use super::counters::Counters;
use super::item::{BodyPlace, ItemState, Token};
use super::model::tape::Tape;
use super::policy::Policy;
use super::record::{Moved, Pushed, QueueRecord, Record, Return};
use proptest::prelude::*;

type Listed = Vec<(u32, u64, ItemState, u32)>;
type Failed = Vec<(u32, u64)>;

fn number() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 1, 2, 3, u64::MAX - 1, u64::MAX])
}

fn pushed(queue: u32) -> impl Strategy<Value = Pushed<'static>> {
    (number(), number(), prop::option::of(number()), prop::option::of(Just("key"))).prop_map(
        move |(number, pushed_ms, due_ms, key)| Pushed {
            queue,
            number,
            pushed_ms,
            due_ms,
            key,
            content_type: None,
            body: b"body",
        },
    )
}

fn queue_record(queue: u32, name: &str, count_next: Option<u64>, counted: u64) -> Record<'static> {
    Record::Queue(QueueRecord {
        queue,
        name: name.into(),
        policy: Policy::default(),
        sealed: false,
        seal_used: false,
        held: true,
        count_next,
        counters: Counters { pushed: counted, leases: counted, acked: counted, ..Counters::default() },
    })
}

fn made(queue: u32) -> impl Strategy<Value = Record<'static>> {
    (prop::sample::select(vec!["a", "b"]), prop::option::of(number()), number())
        .prop_map(move |(name, count_next, counted)| queue_record(queue, name, count_next, counted))
}

fn moved(queue: u32) -> impl Strategy<Value = Record<'static>> {
    let state = prop::sample::select(ItemState::ALL.to_vec());
    (pushed(queue), state, prop::sample::select(vec![0, 1, u32::MAX]), number(), number()).prop_map(
        |(item, state, attempts, at_ms, token)| {
            let token = Token(token);
            Record::Moved(Moved {
                item,
                state,
                attempts,
                reason: None,
                at_ms,
                token,
                bound: false,
                worker: None,
            })
        },
    )
}

fn record() -> impl Strategy<Value = Record<'static>> {
    prop::sample::select(vec![0, 1, u32::MAX]).prop_flat_map(|queue| {
        let end = || (number(), prop::option::of(number()), any::<bool>());
        prop_oneof![
            3 => made(queue),
            4 => pushed(queue).prop_map(Record::Pushed),
            3 => moved(queue),
            1 => number().prop_map(Record::NextNumber),
            1 => Just(Record::QueueGone { queue }),
            1 => Just(Record::Drained { queue }),
            3 => (number(), number(), number()).prop_map(move |(number, token, until_ms)| Record::Leased {
                queue, number, token: Token(token), until_ms, bound: false, worker: None,
            }),
            1 => (number(), number()).prop_map(move |(number, until_ms)| Record::Extended { queue, number, until_ms }),
            1 => (number(), number()).prop_map(move |(number, at_ms)| Record::Acked { queue, number, at_ms }),
            2 => end().prop_map(move |(number, due_ms, _)| Record::Returned {
                queue, number, how: Return::Nacked, due_ms, reason: None,
            }),
            2 => end().prop_map(move |(number, _, moved)| Record::Died {
                queue, number, how: Return::Expired, moved, reason: Some("why"),
            }),
            1 => number().prop_map(move |number| Record::Redriven { queue, number }),
            1 => number().prop_map(move |number| Record::Deleted { queue, number }),
            1 => number().prop_map(move |number| Record::KeyKept { queue, key: "key", number, at_ms: number }),
            1 => number().prop_map(move |moved| Record::Round { queue, moved }),
            1 => any::<bool>().prop_map(move |paused| Record::Paused { queue, paused }),
        ]
    })
}

fn listed(core: &Core) -> Listed {
    let queues = core.queues();
    queues.flat_map(|q| q.items().iter().map(|i| (q.number, i.number, i.state, i.attempts))).collect()
}

fn failed(core: &Core) -> Failed {
    core.queues().map(|q| (q.number, q.failed())).collect()
}

fn read(records: &[Record<'static>]) -> Core {
    let mut core = Core::reading(1, 1);
    for (at, record) in records.iter().enumerate() {
        core.apply(record, BodyPlace { segment: u32::try_from(at).unwrap(), offset: 0 });
    }
    core.finish_reading();
    core
}

/// Rewrites the core's state as a compaction does.
fn written_anew(core: &mut Core) -> Tape {
    let mut tape = Tape::default();
    core.checkpoint(&mut tape);
    let places = core.queues().flat_map(|q| q.items().iter().map(|i| (q.number, i.number, i.place)));
    for (queue, number, place) in places.collect::<Vec<_>>() {
        assert!(core.rewrite(queue, number, place, b"body", &mut tape));
    }
    tape
}

#[test]
fn a_name_that_two_queues_claim_stays_with_the_first() {
    let core =
        read(&[(1, "a"), (2, "a"), (1, "b")].map(|(number, name)| queue_record(number, name, None, 0)));
    assert_eq!(core.queues().map(|q| q.number).collect::<Vec<_>>(), [1]);
    assert!(core.queue("a").is_ok() && core.queue("b").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn foreign_log_is_rewritten_unchanged(records in prop::collection::vec(record(), 0..40)) {
        let mut core = read(&records);
        prop_assert_eq!(core.usage.live.values().sum::<u64>(), core.usage.live_bytes);
        let tape = written_anew(&mut core);
        let again = tape.replay();
        prop_assert_eq!((listed(&core), failed(&core)), (listed(&again), failed(&again)));
    }
}
