//! Tests commits, watchers and recovery with a store that blocks and fails on request.

use super::*;
use crate::store::contract::{KeyPage, MutationGroup, MutationKind, ValueInfo};
use crate::store::evaluation::{Action, Condition, Matcher, Operation};
use crate::store::memory::MemoryStore;
use kit::disk::free_space::Space;
use kit::http::body::BodyBudget;
use kit::telemetry::metrics::Metrics;
use std::pin::Pin;
use std::sync::Condvar;
use std::task::Poll;

/// A store in memory. Its writes block while the gate is closed, and fail while an error is set.
#[derive(Debug)]
struct ControlledStore {
    keys: MemoryStore,
    state: Mutex<ControlledState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ControlledState {
    is_closed: bool,
    /// The free bytes of the disk; `None` if they are not known.
    free: Option<u64>,
    error: Option<StoreError>,
    /// The number of writes that wait at the gate.
    waiting: usize,
    /// True if writes block after reads can see them.
    holds_written: bool,
    held: usize,
    /// The number of mutations of each write.
    writes: Vec<usize>,
    /// The number of values that were read.
    values_read: usize,
}

impl ControlledStore {
    fn set(&self, change: impl FnOnce(&mut ControlledState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_for(&self, condition: impl Fn(&ControlledState) -> bool) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, trial::DEADLINE, |state| !condition(state));
        assert!(!waited.unwrap().1.timed_out());
    }
}

impl KeyStore for ControlledStore {
    fn name(&self) -> &'static str {
        "controlled"
    }

    fn space(&self) -> Option<Space> {
        let available_bytes = self.state.lock().unwrap().free?;
        Some(Space { available_bytes, capacity_bytes: 1 << 40 })
    }

    fn reads_block(&self) -> bool {
        false
    }

    fn revision(&self) -> Revision {
        self.keys.revision()
    }

    fn usage(&self) -> KeyUsage {
        self.keys.usage()
    }

    fn get(&self, key: &Key) -> Result<Option<VersionedValue>, StoreError> {
        self.set(|state| state.values_read += 1);
        self.keys.get(key)
    }

    fn info(&self, key: &Key) -> Result<Option<ValueInfo>, StoreError> {
        self.keys.info(key)
    }

    fn page(&self, range: &KeyRange) -> Result<KeyPage, StoreError> {
        self.keys.page(range)
    }

    fn expired(&self, now_ms: u64, keys_max: usize) -> Result<Vec<Key>, StoreError> {
        self.keys.expired(now_ms, keys_max)
    }

    fn next_expiry(&self) -> Result<Option<u64>, StoreError> {
        self.keys.next_expiry()
    }

    fn write(&self, group: MutationGroup<'_>) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.is_closed).unwrap();
        state.waiting -= 1;
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        self.keys.write(group)?;
        state.writes.push(group.mutations.len());
        state.held += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.holds_written).unwrap();
        state.held -= 1;
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn KeySnapshot>, StoreError> {
        self.keys.snapshot()
    }
}

/// The value of `--min-free`.
const FLOOR: u64 = 1000;

struct Opened {
    store: Arc<ControlledStore>,
    keyspace: Keyspace,
    end: oneshot::Receiver<Result<(), StoreError>>,
    readiness: Readiness,
}

fn open(history_bytes_max: usize) -> Opened {
    let keys = MemoryStore::starting_at(0);
    let store = Arc::new(ControlledStore { keys, state: Mutex::default(), changed: Condvar::new() });
    let readiness = Readiness::starting();
    readiness.clear("starting");
    let limits = KeyLimits { bytes_max: u64::MAX, history_bytes_max, min_free: MinFree::Bytes(FLOOR) };
    let metrics = KvdMetrics::register(&Metrics::new("kvd"));
    let (keyspace, end) = Keyspace::start(store.clone(), limits, readiness.clone(), metrics).unwrap();
    Opened { store, keyspace, end, readiness }
}

impl Opened {
    /// Waits until the keyspace is ready.
    async fn until_ready(&self) {
        let mut changes = self.readiness.changes();
        tokio::time::timeout(trial::DEADLINE, changes.wait_for(std::collections::BTreeMap::is_empty))
            .await
            .unwrap()
            .unwrap();
    }
}

impl Keyspace {
    async fn commit_now(&self, transaction: Transaction) -> Result<Vec<OperationOutcome>, Refusal> {
        self.commit(transaction, BodyRoom::default()).await
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn put(text: &str, value: &str, ttl_ms: Option<u64>, condition: Condition) -> Transaction {
    let action = Action::Put { bytes: value.as_bytes().into(), ttl_ms };
    Transaction { operations: vec![Operation { key: key(text), condition, action }] }
}

fn put_any(text: &str) -> Transaction {
    put(text, "value", None, Condition::default())
}

/// Waits until this many tasks have sent their commit.
async fn until_sent(tasks: usize, sent: &Arc<Semaphore>) {
    let permits = sent.acquire_many(u32::try_from(tasks).unwrap()).await.unwrap();
    permits.forget();
}

/// Polls a future once; true if it is pending.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
}

#[tokio::test]
async fn commits_that_gather_while_the_disk_works_share_the_next_one() {
    let Opened { store, keyspace, .. } = open(1 << 20);
    store.set(|state| state.is_closed = true);
    let sent = Arc::new(Semaphore::new(0));
    let commit = |number: usize| {
        let (keyspace, sent) = (keyspace.clone(), sent.clone());
        tokio::spawn(async move {
            let mut commit = std::pin::pin!(keyspace.commit_now(put_any(&format!("k{number}"))));
            // The first poll sends the commit.
            assert!(is_pending(&mut commit).await);
            sent.add_permits(1);
            commit.await.unwrap()[0].revision.unwrap()
        })
    };
    let first = commit(0);
    until_sent(1, &sent).await;
    store.wait_for(|state| state.waiting == 1);
    let others: Vec<_> = (1..=20).map(commit).collect();
    until_sent(20, &sent).await;
    assert_eq!(keyspace.get(&key("k0")).await.unwrap(), None, "nothing is seen before it is written");
    store.set(|state| state.is_closed = false);
    let mut revisions = vec![first.await.unwrap()];
    for other in others {
        revisions.push(other.await.unwrap());
    }
    assert_eq!(revisions, (1..=21).collect::<Vec<_>>());
    assert_eq!(store.state.lock().unwrap().writes, [1, 20]);
}

#[tokio::test]
async fn writes_read_no_values() {
    let Opened { store, keyspace, .. } = open(1 << 20);
    keyspace.commit_now(put("a", "old", Some(0), Condition::default())).await.unwrap();
    keyspace.commit_now(put("a", "new", None, Condition::default())).await.unwrap();
    let actions = [("a", Action::Delete), ("b", Action::Check)];
    let operations = actions.map(|(text, action)| {
        let condition = Condition { if_none_match: Some(Matcher::OneOf(vec![7])), ..Condition::default() };
        Operation { key: key(text), condition, action }
    });
    keyspace.commit_now(Transaction { operations: operations.into() }).await.unwrap();
    assert_eq!(store.state.lock().unwrap().values_read, 0);
}

#[tokio::test]
async fn requests_beyond_one_commit_are_in_the_next_one() {
    const COMMITS: usize = 20;
    let Opened { store, keyspace, .. } = open(1 << 20);
    store.set(|state| state.is_closed = true);
    let sent = Arc::new(Semaphore::new(0));
    let value = "x".repeat(1 << 20);
    let commits: Vec<_> = (0..COMMITS)
        .map(|number| {
            let (keyspace, sent) = (keyspace.clone(), sent.clone());
            let transaction = put(&format!("k{number}"), &value, None, Condition::default());
            tokio::spawn(async move {
                let mut commit = std::pin::pin!(keyspace.commit_now(transaction));
                assert!(is_pending(&mut commit).await);
                sent.add_permits(1);
                commit.await.map(drop)
            })
        })
        .collect();
    until_sent(COMMITS, &sent).await;
    store.set(|state| state.is_closed = false);
    for commit in commits {
        assert_eq!(commit.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn watch_from_a_listing_waits_until_its_commit_is_published() {
    let Opened { store, keyspace, .. } = open(1 << 20);
    store.set(|state| state.holds_written = true);
    let mut commit = std::pin::pin!(keyspace.commit_now(put_any("k")));
    assert!(is_pending(&mut commit).await);
    store.wait_for(|state| state.held == 1);
    let range = KeyRange { keys_max: 9, bytes_max: 9, ..KeyRange::default() };
    let listing = keyspace.list(range).await.unwrap();
    assert_eq!((listing.keys.len(), listing.revision), (1, 1));
    let mut watch = std::pin::pin!(keyspace.watch("", Some(listing.revision)));
    assert!(is_pending(&mut watch).await);
    store.set(|state| state.holds_written = false);
    watch.await.unwrap();
    commit.await.unwrap();
}

#[tokio::test]
async fn watcher_takes_few_large_values_at_a_time() {
    let Opened { keyspace, .. } = open(16 << 20);
    let mut watcher = keyspace.watch("", None).await.unwrap();
    let value = "x".repeat(40 << 10);
    for number in 0..5 {
        let transaction = put(&format!("k{number}"), &value, None, Condition::default());
        keyspace.commit_now(transaction).await.unwrap();
    }
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 5 {
        sizes.push(watcher.next().await.unwrap().len());
    }
    assert_eq!(sizes, [2, 2, 1]);
}

#[tokio::test]
async fn full_disk_refuses_writes_keeps_reads_and_recovers_by_itself() {
    let opened = open(1 << 20);
    let Opened { store, keyspace, readiness, .. } = &opened;
    keyspace.commit_now(put_any("before")).await.unwrap();
    let full = StoreError::NoSpace("no space left on device".to_owned());
    store.set(|state| state.error = Some(full.clone()));
    assert_eq!(keyspace.commit_now(put_any("refused")).await, Err(Refusal::Store(full.clone())));
    assert!(readiness.reasons().contains("no space left on device"));
    assert!(keyspace.get(&key("before")).await.unwrap().is_some());
    assert_eq!(keyspace.get(&key("refused")).await.unwrap(), None);
    // No request triggers the recovery: the thread retries by itself.
    store.set(|state| state.error = None);
    opened.until_ready().await;
    assert_eq!(keyspace.commit_now(put_any("after")).await.unwrap()[0].revision, Some(2));
}

#[tokio::test]
async fn keys_can_be_deleted_and_expire_while_the_disk_is_nearly_full() {
    let opened = open(1 << 20);
    let Opened { store, keyspace, readiness, .. } = &opened;
    keyspace.commit_now(put_any("a")).await.unwrap();
    keyspace.commit_now(put_any("b")).await.unwrap();
    store.set(|state| state.free = Some(FLOOR - 1));
    let refused = keyspace.commit_now(put_any("c")).await.unwrap_err();
    assert!(refused.to_string().contains("less than --min-free 1000 bytes"), "{refused}");
    assert!(readiness.reasons().contains("only 999 bytes are free"), "{}", readiness.reasons());
    // A lease is renewed, since it does not grow, and expires.
    let mut watcher = keyspace.watch("b", None).await.unwrap();
    keyspace.commit_now(put("b", "again", Some(1), Condition::default())).await.unwrap();
    let action = Action::Delete;
    let delete = Operation { key: key("a"), condition: Condition::default(), action };
    let deleted = keyspace.commit_now(Transaction { operations: vec![delete] }).await.unwrap();
    assert!(deleted[0].revision.is_some());
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let next = tokio::time::timeout(trial::DEADLINE, watcher.next()).await.unwrap().unwrap();
        kinds.extend(next.into_iter().map(|mutation| mutation.kind));
    }
    assert_eq!(kinds[1], MutationKind::Expire);
    store.set(|state| state.free = Some(FLOOR));
    opened.until_ready().await;
    keyspace.commit_now(put_any("c")).await.unwrap();
}

#[tokio::test]
async fn waiting_commit_keeps_its_memory_after_its_client_has_gone() {
    const VALUE: usize = 1 << 20;
    let Opened { store, keyspace, .. } = open(1 << 20);
    let budget = BodyBudget::new(0, VALUE);
    store.set(|state| state.is_closed = true);
    let room = budget.take(VALUE).await.unwrap();
    {
        let mut gone = std::pin::pin!(keyspace.commit(put_any("a"), room));
        assert!(is_pending(&mut gone).await);
    }
    store.wait_for(|state| state.waiting == 1);
    let mut next = std::pin::pin!(budget.take(VALUE));
    assert!(is_pending(&mut next).await);
    store.set(|state| state.is_closed = false);
    next.await.unwrap();
}

#[tokio::test]
async fn refusals_that_rest_on_a_failed_commit_are_failures() {
    let Opened { store, keyspace, .. } = open(1 << 20);
    let full = StoreError::NoSpace("full".to_owned());
    store.set(|state| (state.is_closed, state.error) = (true, Some(full.clone())));
    let first = tokio::spawn({
        let keyspace = keyspace.clone();
        async move { keyspace.commit_now(put_any("gate")).await }
    });
    tokio::task::yield_now().await;
    store.wait_for(|state| state.waiting == 1);
    let absent = || Condition { if_none_match: Some(Matcher::Any), ..Condition::default() };
    let (one, other) = (put("k", "1", None, absent()), put("k", "2", None, absent()));
    let both = async { tokio::join!(keyspace.commit_now(one), keyspace.commit_now(other)) };
    let mut both = std::pin::pin!(both);
    assert!(is_pending(&mut both).await);
    store.set(|state| state.is_closed = false);
    // The second condition failed because of the first put, which was not written.
    assert_eq!(both.await, (Err(full.clone().into()), Err(full.clone().into())));
    assert_eq!(first.await.unwrap(), Err(full.into()));
}

#[tokio::test]
async fn broken_store_ends_the_thread_and_later_commits_fail() {
    let Opened { store, keyspace, end, .. } = open(1 << 20);
    let broken = StoreError::Broken("input/output error".to_owned());
    store.set(|state| state.error = Some(broken.clone()));
    assert_eq!(keyspace.commit_now(put_any("a")).await, Err(broken.clone().into()));
    assert_eq!(end.await.unwrap(), Err(broken));
    assert!(matches!(keyspace.commit_now(put_any("b")).await, Err(Refusal::Store(StoreError::Broken(_)))));
}

#[tokio::test]
async fn keys_expire_for_readers_at_once_and_for_watchers_in_order() {
    let Opened { keyspace, end, .. } = open(1 << 20);
    let mut watcher = keyspace.watch("lease/", None).await.unwrap();
    keyspace.commit_now(put("lease/0", "x", Some(0), Condition::default())).await.unwrap();
    assert_eq!(keyspace.get(&key("lease/0")).await.unwrap(), None);
    // Conditions treat an expired key as absent.
    let absent = Condition { if_none_match: Some(Matcher::Any), ..Condition::default() };
    keyspace.commit_now(put("lease/1", "x", Some(30), absent)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let next = tokio::time::timeout(trial::DEADLINE, watcher.next()).await.unwrap().unwrap();
        seen.extend(next.into_iter().map(|mutation| (mutation.key.to_string(), mutation.kind)));
    }
    let kinds: Vec<_> = seen
        .iter()
        .map(|(key, kind)| {
            (key.as_str(), matches!(kind, MutationKind::Put { .. }), *kind == MutationKind::Expire)
        })
        .collect();
    let (put, expired) = (|key| (key, true, false), |key| (key, false, true));
    assert_eq!(kinds, [put("lease/0"), expired("lease/0"), put("lease/1"), expired("lease/1")]);
    assert_eq!(
        keyspace.list(KeyRange { keys_max: 9, bytes_max: 9, ..KeyRange::default() }).await.unwrap().keys,
        []
    );
    keyspace.close();
    end.await.unwrap().unwrap();
}

#[tokio::test]
async fn watchers_see_every_mutation_in_order_and_resume() {
    const COMMITS: u64 = 3000;
    let Opened { keyspace, .. } = open(1 << 20);
    let writing = tokio::spawn({
        let keyspace = keyspace.clone();
        async move {
            for number in 0..COMMITS {
                keyspace.commit_now(put_any(&format!("{}/{number}", number % 3))).await.unwrap();
            }
        }
    });
    let mut position = 0;
    let mut seen = Vec::new();
    // Each answer comes from a new watcher, which resumes where the last one ended.
    while seen.len() < usize::try_from(COMMITS / 3).unwrap() {
        let mut watcher = keyspace.watch("1/", Some(position)).await.unwrap();
        let next = tokio::time::timeout(trial::DEADLINE, watcher.next()).await.unwrap().unwrap();
        position = watcher.position();
        seen.extend(next.into_iter().map(|mutation| mutation.revision));
    }
    // The first commit has revision 1 and key 0/0.
    assert_eq!(seen, (2..=COMMITS).step_by(3).collect::<Vec<_>>());
    writing.await.unwrap();
}

#[tokio::test]
async fn watcher_that_is_too_slow_gets_an_error_instead_of_a_gap() {
    let Opened { keyspace, .. } = open(200);
    let mut watcher = keyspace.watch("", None).await.unwrap();
    for number in 0..10 {
        keyspace.commit_now(put_any(&format!("k{number}"))).await.unwrap();
    }
    let error = watcher.next().await.unwrap_err();
    assert_eq!((error.after, error.newest), (0, 10));
    assert!(keyspace.watch("", Some(0)).await.is_err() && keyspace.watch("", Some(11)).await.is_err());
    assert!(keyspace.watch("", Some(10)).await.is_ok());
}
