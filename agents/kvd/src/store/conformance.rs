//! The conformance suite: random histories, in which every engine must answer as the plain model does.

use super::contract::{KeyRange, KeySnapshot, KeyStore, ListedValue, Mutation, MutationKind};
use super::disk::DiskStore;
use super::evaluation::{Action, Condition, Evaluation, Matcher, Operation, Transaction};
use super::key::Key;
use super::memory::MemoryStore;
use super::model::{KeyModel, ModelAnswer, ModelValue};
use proptest::prelude::*;
use std::num::NonZeroU64;
use std::path::Path;

/// Keys that share prefixes, and whose order by bytes differs from the alphabet.
const KEYS: [&str; 8] = ["a", "a/1", "a/10", "a/2", "ab", "b", "Z", "ё"];

const NOW_MS: u64 = 1_000_000;

/// An operation whose condition depends on the key's revision when the operation is applied.
#[derive(Clone, Debug)]
struct Wish {
    key: usize,
    condition: WishCondition,
    action: Action,
}

#[derive(Clone, Copy, Debug)]
enum WishCondition {
    None,
    Present,
    Absent,
    Current,
    Stale,
    NotCurrent,
}

#[derive(Clone, Debug)]
enum HistoryStep {
    /// Transactions that are written as one group.
    Group(Vec<Vec<Wish>>),
    Wait(u64),
    Look {
        prefix: String,
        after: Option<usize>,
        keys_max: usize,
        bytes_max: usize,
        keys_only: bool,
    },
    /// Starts a snapshot, or reads a part of the current one.
    Snapshot {
        bytes_max: usize,
    },
    Reopen,
}

fn wish() -> impl Strategy<Value = Wish> {
    use WishCondition::*;
    let condition = prop_oneof![
        4 => Just(None), 1 => Just(Present), 1 => Just(Absent), 2 => Just(Current), 1 => Just(Stale),
        1 => Just(NotCurrent)
    ];
    let put = (prop::collection::vec(any::<u8>(), 0..40), prop::option::weighted(0.3, 0_u64..50));
    let put = put.prop_map(|(bytes, ttl_ms)| Action::Put { bytes: bytes.into(), ttl_ms });
    let action = prop_oneof![4 => put, 2 => Just(Action::Delete), 1 => Just(Action::Check)];
    (0..KEYS.len(), condition, action).prop_map(|(key, condition, action)| Wish { key, condition, action })
}

fn step() -> impl Strategy<Value = HistoryStep> {
    let transaction = prop::collection::vec(wish(), 0..4);
    let prefix = prop_oneof![Just(""), Just("a"), Just("a/"), Just("ё"), Just("x")].prop_map(str::to_owned);
    let look = (prefix, prop::option::of(0..KEYS.len()), 0_usize..10, 0_usize..100, any::<bool>());
    prop_oneof![
        6 => prop::collection::vec(transaction, 1..4).prop_map(HistoryStep::Group),
        2 => (0_u64..30).prop_map(HistoryStep::Wait),
        3 => look.prop_map(|(prefix, after, keys_max, bytes_max, keys_only)| {
            HistoryStep::Look { prefix, after, keys_max, bytes_max, keys_only }
        }),
        3 => (0_usize..60).prop_map(|bytes_max| HistoryStep::Snapshot { bytes_max }),
        1 => Just(HistoryStep::Reopen),
    ]
}

fn key(index: usize) -> Key {
    Key::new(KEYS[index]).unwrap()
}

fn transaction(wishes: &[Wish], model: &KeyModel) -> Transaction {
    let operation = |wish: &Wish| {
        let key = key(wish.key);
        let current = model.live(&key).unwrap_or(0);
        let one = |revision| Some(Matcher::OneOf(vec![revision]));
        let (if_match, if_none_match) = match wish.condition {
            WishCondition::None => (None, None),
            WishCondition::Present => (Some(Matcher::Any), None),
            WishCondition::Absent => (None, Some(Matcher::Any)),
            WishCondition::Current => (one(current), None),
            WishCondition::Stale => (one(current + 1), None),
            WishCondition::NotCurrent => (None, one(current)),
        };
        Operation { key, condition: Condition { if_match, if_none_match }, action: wish.action.clone() }
    };
    Transaction { operations: wishes.iter().map(operation).collect() }
}

/// Converts values to those of the model. A value that has no bytes, because only keys were read, gets zeros.
fn in_model(keys: Vec<(Key, impl Into<ListedValue>)>) -> Vec<(Key, ModelValue)> {
    let value = |ListedValue { info, bytes }: ListedValue| {
        let size = usize::try_from(info.bytes).unwrap();
        let bytes = bytes.map_or_else(|| vec![0; size], |bytes| bytes.to_vec());
        assert_eq!(bytes.len(), size);
        ModelValue { bytes, revision: info.revision, expires_ms: info.expires_ms.map(NonZeroU64::get) }
    };
    keys.into_iter().map(|(key, found)| (key, value(found.into()))).collect()
}

/// A snapshot that is being read.
struct SnapshotTrial {
    snapshot: Box<dyn KeySnapshot>,
    /// The keys when the snapshot began.
    expected: Vec<(Key, ModelValue)>,
    read: Vec<(Key, ModelValue)>,
}

/// The store under test, and its model.
struct StoreTrial<'a> {
    open: &'a dyn Fn(Option<Box<dyn KeyStore>>) -> Box<dyn KeyStore>,
    store: Box<dyn KeyStore>,
    model: KeyModel,
    bytes_max: u64,
    snapshot: Option<SnapshotTrial>,
}

impl<'a> StoreTrial<'a> {
    fn new(
        open: &'a dyn Fn(Option<Box<dyn KeyStore>>) -> Box<dyn KeyStore>,
        bytes_max: u64,
    ) -> StoreTrial<'a> {
        let store = open(None);
        let model = KeyModel { revision: store.revision(), now_ms: NOW_MS, ..KeyModel::default() };
        StoreTrial { open, store, model, bytes_max, snapshot: None }
    }

    fn step(mut self, step: &HistoryStep) -> StoreTrial<'a> {
        match step {
            HistoryStep::Group(transactions) => self.group(transactions),
            HistoryStep::Wait(ms) => self.model.now_ms += ms,
            HistoryStep::Look { prefix, after, keys_max, bytes_max, keys_only } => {
                let (prefix, after) = (prefix.as_str().into(), after.map(key));
                let (keys_max, bytes_max, keys_only) = (*keys_max, *bytes_max, *keys_only);
                self.look(&KeyRange { prefix, after, keys_max, bytes_max, keys_only });
            }
            HistoryStep::Snapshot { bytes_max } => self.read_snapshot(*bytes_max),
            HistoryStep::Reopen => {
                self.snapshot = None;
                self.store = (self.open)(Some(self.store));
            }
        }
        self.compare();
        self
    }

    fn group(&mut self, transactions: &[Vec<Wish>]) {
        let before = self.model.clone();
        let mut evaluation = Evaluation::new(&*self.store, self.model.now_ms, self.bytes_max);
        evaluation.expire(usize::MAX).unwrap();
        self.model.expire();
        for wishes in transactions {
            let transaction = transaction(wishes, &self.model);
            let expected = self.model.apply(&transaction, self.bytes_max);
            assert_eq!(ModelAnswer::from(evaluation.add(transaction)), expected);
        }
        self.store.write(evaluation.group()).unwrap();
        check_mutations(&evaluation.into_mutations(), &before, &self.model);
    }

    fn look(&self, range: &KeyRange) {
        let page = self.store.page(range).unwrap();
        let wanted = self.model.keys.iter().filter(|(key, _)| {
            key.starts_with(&*range.prefix) && range.after.as_ref().is_none_or(|after| *key > after)
        });
        let wanted: Vec<_> = wanted
            .map(|(key, value)| {
                let mut value = value.clone();
                if range.keys_only {
                    value.bytes.fill(0);
                }
                (key.clone(), value)
            })
            .collect();
        assert_eq!(page.revision, self.model.revision);
        assert_eq!(page.is_cut, page.keys.len() < wanted.len());
        assert!(page.keys.iter().all(|(_, value)| value.bytes.is_none() == range.keys_only));
        let found = in_model(page.keys);
        assert_eq!(found, wanted[..found.len()]);
        assert!(found.len() <= range.keys_max);
        // The page ends with the key that reaches the limit.
        let value_bytes = |value: &ModelValue| if range.keys_only { 0 } else { value.bytes.len() };
        let bytes: Vec<usize> = found.iter().map(|(key, value)| key.len() + value_bytes(value)).collect();
        let all_but_last = bytes.iter().rev().skip(1).sum::<usize>();
        assert!(bytes.len() < 2 || all_but_last < range.bytes_max, "{bytes:?} of {}", range.bytes_max);
        let is_full = found.len() == range.keys_max || bytes.iter().sum::<usize>() >= range.bytes_max;
        assert!(!page.is_cut || is_full);
    }

    fn read_snapshot(&mut self, bytes_max: usize) {
        let Some(SnapshotTrial { snapshot, expected, read }) = &mut self.snapshot else {
            let expected = self.model.keys.clone().into_iter().collect();
            let snapshot = self.store.snapshot().unwrap();
            assert_eq!(snapshot.revision(), self.model.revision);
            self.snapshot = Some(SnapshotTrial { snapshot, expected, read: Vec::new() });
            return;
        };
        let part = in_model(snapshot.next(bytes_max).unwrap());
        let is_over = part.is_empty();
        read.extend(part);
        assert_eq!(read[..], expected[..read.len()]);
        if is_over {
            assert_eq!(read.len(), expected.len(), "the snapshot ended early");
            self.snapshot = None;
        }
    }

    fn compare(&self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!((store.revision(), store.usage()), (model.revision, model.usage()));
        for key in (0..KEYS.len()).map(key) {
            let found = store.get(&key).unwrap().map(|value| (key.clone(), value));
            assert_eq!(store.info(&key).unwrap(), found.as_ref().map(|(_, value)| value.info()));
            let expected = model.keys.get(&key).map(|value| (key.clone(), value.clone()));
            assert_eq!(in_model(found.into_iter().collect()), Vec::from_iter(expected));
        }
        let expiring = model.keys.iter().filter_map(|(key, value)| Some((value.expires_ms?, key.clone())));
        let mut expiring: Vec<_> = expiring.collect();
        expiring.sort();
        assert_eq!(store.next_expiry().unwrap(), expiring.first().map(|(expires, _)| *expires));
        let mut expired = store.expired(model.now_ms, usize::MAX).unwrap();
        let due = expiring.into_iter().filter(|(expires, _)| *expires <= model.now_ms);
        let mut due: Vec<_> = due.map(|(_, key)| key).collect();
        // Keys that expire at the same time have no fixed order.
        expired.sort();
        due.sort();
        assert_eq!(expired, due);
    }
}

/// Checks that the mutations of a group are enough to rebuild the keys, as watchers do.
fn check_mutations(mutations: &[Mutation], before: &KeyModel, after: &KeyModel) {
    let mut keys = before.keys.clone();
    for (mutation, revision) in mutations.iter().zip(before.revision + 1..) {
        assert_eq!(mutation.revision, revision);
        let gone = match &mutation.kind {
            MutationKind::Put { .. } => {
                let value = mutation.value().map(|value| (mutation.key.clone(), value));
                keys.extend(in_model(value.into_iter().collect()));
                continue;
            }
            MutationKind::Delete | MutationKind::Expire => keys.remove(&mutation.key).unwrap(),
        };
        let is_over = gone.expires_ms.is_some_and(|expires| expires <= after.now_ms);
        assert_eq!(mutation.kind == MutationKind::Expire, is_over);
    }
    assert_eq!((keys, before.revision + mutations.len() as u64), (after.keys.clone(), after.revision));
}

fn open_disk(dir: &Path, old: Option<Box<dyn KeyStore>>) -> Box<dyn KeyStore> {
    drop(old);
    Box::new(DiskStore::open(dir, 7).unwrap())
}

/// Keeps the old store, because memory cannot be reopened.
fn open_memory(old: Option<Box<dyn KeyStore>>) -> Box<dyn KeyStore> {
    old.unwrap_or_else(|| Box::new(MemoryStore::starting_at(7)))
}

fn history() -> impl Strategy<Value = (u64, Vec<HistoryStep>)> {
    // The limit leaves room for a few keys, or for all of them.
    (prop_oneof![Just(600_u64), Just(u64::MAX)], prop::collection::vec(step(), 1..60))
}

proptest! {
    #[test]
    fn memory_answers_as_the_model((bytes_max, steps) in history()) {
        let open = open_memory;
        steps.iter().fold(StoreTrial::new(&open, bytes_max), StoreTrial::step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn disk_answers_as_the_model((bytes_max, steps) in history()) {
        let dir = tempfile::tempdir().unwrap();
        let open = |old| open_disk(dir.path(), old);
        steps.iter().fold(StoreTrial::new(&open, bytes_max), StoreTrial::step);
    }
}
