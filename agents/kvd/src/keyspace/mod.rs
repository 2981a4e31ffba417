//! The handle through which all doors use the keys: reads, commits, watchers and snapshots.

pub mod clock;
pub mod committer;
pub mod watcher;

use crate::metrics::KvdMetrics;
use crate::store::contract::{
    KeyRange, KeySnapshot, KeyStore, KeyUsage, ListedValue, Mutation, Revision, StoreError, VersionedValue,
};
use crate::store::evaluation::{OperationOutcome, Refusal, Transaction};
use crate::store::key::Key;
use crate::store::ring::{MutationRing, NotKept};
use clock::Clock;
use committer::{CommitCommand, Committer, Submission};
use kit::disk::free_space::MinFree;
use kit::exit::Fatal;
use kit::http::body::BodyRoom;
use kit::lifecycle::readiness::Readiness;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, oneshot, watch};
use watcher::KeyWatcher;

/// Limit on concurrent reads from the disk. Each uses a thread.
const READS_MAX: usize = 4;

/// Limit on the commits that wait. A connection waits for one at a time, but commits of clients that
/// disconnected stay in the queue as well.
const COMMITS_MAX: usize = 8192;

/// The bounds that the keyspace enforces.
#[derive(Clone, Copy, Debug)]
pub struct KeyLimits {
    /// The bytes of keys and values, with an estimate of their overhead.
    pub bytes_max: u64,
    /// The bytes of mutations that are kept for watchers that resume.
    pub history_bytes_max: usize,
    /// The space that stays free on the disk, so that keys can still be deleted.
    pub min_free: MinFree,
}

/// A handle of the keys. Clones share them.
#[derive(Clone, Debug)]
pub struct Keyspace(Arc<KeyspaceParts>);

#[derive(Debug)]
struct KeyspaceParts {
    store: Arc<dyn KeyStore>,
    commits: SyncSender<CommitCommand>,
    feed: Arc<Feed>,
    reads: Arc<Semaphore>,
    clock: Arc<Clock>,
}

/// The latest mutations, and the signal that there are new ones.
#[derive(Debug)]
struct Feed {
    ring: Mutex<MutationRing>,
    newest: watch::Sender<Revision>,
    /// The last revision of the commit that is being written, if there is one. Reads may see it before the ring
    /// has it.
    writing: watch::Sender<Option<Revision>>,
}

impl Feed {
    fn new(revision: Revision, bytes_max: usize) -> Feed {
        let ring = Mutex::new(MutationRing::new(revision, bytes_max));
        Feed { ring, newest: watch::channel(revision).0, writing: watch::channel(None).0 }
    }

    fn ring(&self) -> MutexGuard<'_, MutationRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// If the commit with this revision is being written now, waits until watchers can see it.
    async fn published(&self, revision: Revision) {
        let mut writing = self.writing.subscribe();
        let is_over = |up_to: &Option<Revision>| {
            up_to.is_none_or(|up_to| up_to < revision) || *self.newest.borrow() >= revision
        };
        // The sender lives as long as the feed.
        let _ = writing.wait_for(is_over).await;
    }

    fn publish(&self, mutations: Vec<Mutation>) {
        let newest = {
            let mut ring = self.ring();
            ring.extend(mutations);
            ring.newest()
        };
        self.newest.send_replace(newest);
    }
}

/// Keys in order, without expired ones.
#[derive(Debug)]
pub struct KeyListing {
    pub keys: Vec<(Key, ListedValue)>,
    /// The key after which the next page starts; `None` on the last page.
    pub next: Option<Key>,
    pub revision: Revision,
}

impl Keyspace {
    /// Starts the thread that commits. The receiver gets the result with which the thread ends.
    pub fn start(
        store: Arc<dyn KeyStore>,
        limits: KeyLimits,
        readiness: Readiness,
        metrics: KvdMetrics,
    ) -> Result<(Keyspace, oneshot::Receiver<Result<(), StoreError>>), Fatal> {
        let (commits, commands) = sync_channel(COMMITS_MAX);
        let feed = Arc::new(Feed::new(store.revision(), limits.history_bytes_max));
        let clock = Arc::new(Clock::default());
        let committer = Committer {
            store: store.clone(),
            commands,
            feed: feed.clone(),
            clock: clock.clone(),
            limits,
            readiness,
            metrics,
        };
        let (finished, end) = oneshot::channel();
        kit::daemon::spawn("kvd-commit", move || {
            let _ = finished.send(committer.run());
        })?;
        let reads = Arc::new(Semaphore::new(READS_MAX));
        Ok((Keyspace(Arc::new(KeyspaceParts { store, commits, feed, reads, clock })), end))
    }

    /// Starts with generous limits, and without an observer.
    #[cfg(test)]
    pub fn start_for_test(store: Arc<dyn KeyStore>) -> (Keyspace, oneshot::Receiver<Result<(), StoreError>>) {
        let limits =
            KeyLimits { bytes_max: u64::MAX, history_bytes_max: 1 << 20, min_free: MinFree::Bytes(0) };
        let metrics = KvdMetrics::register(&kit::telemetry::metrics::Metrics::new("kvd"));
        Keyspace::start(store, limits, Readiness::starting(), metrics).expect("a thread")
    }

    /// Ends the thread after the commits that are queued before this call. Blocks while the queue is full.
    pub fn close(&self) {
        // Sending fails if the thread has ended already.
        let _ = self.0.commits.send(CommitCommand::Close);
    }

    /// Commits a transaction, or rejects all of it. When this returns, the commit is as durable as the engine
    /// promises. `room` is the transaction's share of the memory for requests.
    pub async fn commit(
        &self,
        transaction: Transaction,
        room: BodyRoom,
    ) -> Result<Vec<OperationOutcome>, Refusal> {
        let (reply, answer) = oneshot::channel();
        match self.0.commits.try_send(CommitCommand::Commit(Submission { transaction, reply, room })) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(StoreError::Busy("too many commits wait already".to_owned()).into());
            }
            Err(TrySendError::Disconnected(_)) => return Err(ended().into()),
        }
        answer.await.unwrap_or_else(|_| Err(ended().into()))
    }

    pub async fn get(&self, key: &Key) -> Result<Option<VersionedValue>, StoreError> {
        let wanted = key.clone();
        let value = self.read(move |store| store.get(&wanted)).await?;
        Ok(value.filter(|value| !value.info().is_expired(self.0.clock.now_ms())))
    }

    pub async fn list(&self, range: KeyRange) -> Result<KeyListing, StoreError> {
        let page = self.read(move |store| store.page(&range)).await?;
        let now_ms = self.0.clock.now_ms();
        let next = page.keys.last().filter(|_| page.is_cut).map(|(key, _)| key.clone());
        let mut keys = page.keys;
        keys.retain(|(_, value)| !value.info.is_expired(now_ms));
        Ok(KeyListing { keys, next, revision: page.revision })
    }

    /// Watches keys with a prefix: their mutations after a revision, or from now on.
    pub async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<KeyWatcher, NotKept> {
        if let Some(after) = after {
            self.0.feed.published(after).await;
        }
        KeyWatcher::new(self.0.feed.clone(), prefix, after)
    }

    /// Starts a read of all keys as they are now.
    pub async fn snapshot(&self) -> Result<LiveSnapshot, StoreError> {
        let snapshot = self.read(|store| store.snapshot()).await?;
        Ok(LiveSnapshot { keyspace: self.clone(), snapshot: Some(snapshot), now_ms: self.0.clock.now_ms() })
    }

    pub fn usage(&self) -> KeyUsage {
        self.0.store.usage()
    }

    pub fn revision(&self) -> Revision {
        self.0.store.revision()
    }

    /// Returns the name of the engine.
    pub fn engine(&self) -> &'static str {
        self.0.store.name()
    }

    /// Runs a read on this thread, or on another one if the read may wait for a disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn KeyStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.0.store.clone();
        if !store.reads_block() {
            return read(&*store);
        }
        let permit = self.0.reads.clone().acquire_owned().await.map_err(|_| ended())?;
        let result = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&*store)
        });
        result.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> StoreError {
    StoreError::Broken("the thread that commits has ended".to_owned())
}

/// A snapshot without the keys that had expired when it began.
pub struct LiveSnapshot {
    keyspace: Keyspace,
    /// `None` after a failed read.
    snapshot: Option<Box<dyn KeySnapshot>>,
    now_ms: u64,
}

impl LiveSnapshot {
    pub fn revision(&self) -> Revision {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.revision())
    }

    /// Returns the next keys; `None` at the end. The list may be empty if all of them have expired.
    pub async fn next(&mut self, bytes_max: usize) -> Result<Option<Vec<(Key, ListedValue)>>, StoreError> {
        let mut snapshot = self.snapshot.take().ok_or_else(ended)?;
        let read = self.keyspace.read(move |_| {
            let keys = snapshot.next(bytes_max)?;
            Ok((keys, snapshot))
        });
        let (mut keys, snapshot) = read.await?;
        self.snapshot = Some(snapshot);
        if keys.is_empty() {
            return Ok(None);
        }
        keys.retain(|(_, value)| !value.info.is_expired(self.now_ms));
        Ok(Some(keys))
    }
}

#[cfg(test)]
mod tests;
