//! The contract of a store: keys with values and revisions, and groups of mutations that are written whole.
//!
//! A store makes no decisions. [`Evaluation`](super::evaluation::Evaluation) turns requests into mutations,
//! and every engine keeps them in the same way. The conformance suite runs against each engine.

use super::key::Key;
use kit::disk::free_space::Space;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

/// The number of a mutation. Each mutation of a store has the next number, so a key that is deleted and
/// created again never gets an old revision.
pub type Revision = u64;

/// Returns the first revision of a new store: the time of its creation in microseconds since 1970. Stores
/// that replace each other, as after a restart in memory, thus share no revisions unless the clock goes back.
/// An `ETag` of the old store matches nothing in the new one. The numbers stay below 2^53, which JSON can
/// hold, until the year 2255.
pub fn first_revision(now_ms: u64) -> Revision {
    now_ms.saturating_mul(1000)
}

/// A value with its revision and the time at which it expires.
#[derive(Clone, PartialEq, Eq)]
pub struct VersionedValue {
    pub bytes: Arc<[u8]>,
    pub revision: Revision,
    /// Milliseconds since 1970.
    pub expires_ms: Option<NonZeroU64>,
}

impl VersionedValue {
    pub fn info(&self) -> ValueInfo {
        ValueInfo { bytes: count(self.bytes.len()), revision: self.revision, expires_ms: self.expires_ms }
    }
}

/// The size, revision and expiry of a value, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// The size of the value.
    pub bytes: u64,
    pub revision: Revision,
    /// Milliseconds since 1970.
    pub expires_ms: Option<NonZeroU64>,
}

impl ValueInfo {
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires| expires.get() <= now_ms)
    }
}

impl fmt::Debug for VersionedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.bytes.escape_ascii();
        write!(f, "{text} @{}", self.revision)?;
        self.expires_ms.map_or(Ok(()), |expires| write!(f, " until {expires}"))
    }
}

/// A change of one key, with its own revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    pub key: Key,
    pub revision: Revision,
    pub kind: MutationKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutationKind {
    Put {
        bytes: Arc<[u8]>,
        expires_ms: Option<NonZeroU64>,
    },
    Delete,
    /// The key's time to live has passed.
    Expire,
}

impl Mutation {
    /// Returns the key's value after this mutation; `None` if the key is removed.
    pub fn value(&self) -> Option<VersionedValue> {
        match &self.kind {
            MutationKind::Put { bytes, expires_ms } => Some(VersionedValue {
                bytes: bytes.clone(),
                revision: self.revision,
                expires_ms: *expires_ms,
            }),
            MutationKind::Delete | MutationKind::Expire => None,
        }
    }

    /// Returns the size, revision and expiry after this mutation; `None` if the key is removed.
    pub fn info(&self) -> Option<ValueInfo> {
        match &self.kind {
            MutationKind::Put { bytes, expires_ms } => Some(ValueInfo {
                bytes: count(bytes.len()),
                revision: self.revision,
                expires_ms: *expires_ms,
            }),
            MutationKind::Delete | MutationKind::Expire => None,
        }
    }
}

/// The size of all keys together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUsage {
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// Estimated memory or disk space of a key besides the bytes of key and value: pointers, counts, page
/// headers.
const OVERHEAD_BYTES: u64 = 128;

impl KeyUsage {
    /// Returns the estimated bytes that all keys take. `--max-bytes` limits this figure.
    pub fn cost(self) -> u64 {
        self.bytes.saturating_add(self.keys.saturating_mul(OVERHEAD_BYTES))
    }

    /// Adds a key whose value has this size.
    pub fn add(&mut self, key: &Key, value_bytes: u64) {
        self.keys += 1;
        self.bytes = self.bytes.saturating_add(length(key, value_bytes));
    }

    /// Subtracts a key whose value has this size.
    pub fn remove(&mut self, key: &Key, value_bytes: u64) {
        self.keys = self.keys.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(length(key, value_bytes));
    }
}

fn length(key: &Key, value_bytes: u64) -> u64 {
    count(key.len()).saturating_add(value_bytes)
}

/// Converts a length in memory to a size.
pub fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Mutations that are written together, and the figures of the store after them.
#[derive(Clone, Copy, Debug)]
pub struct MutationGroup<'a> {
    pub mutations: &'a [Mutation],
    pub usage: KeyUsage,
    /// The revision of the last mutation, or the store's present one if the group has no mutations.
    pub revision: Revision,
}

/// A range of a store's keys, in order.
#[derive(Clone, Debug, Default)]
pub struct KeyRange {
    pub prefix: Box<str>,
    /// Only keys after this one. It need not exist.
    pub after: Option<Key>,
    /// Limit on the number of keys.
    pub keys_max: usize,
    /// Limit on the bytes of keys and values. The key that reaches it is still returned, so there is at least
    /// one.
    pub bytes_max: usize,
    /// Leaves out the bytes of values. They count nothing then.
    pub keys_only: bool,
}

/// A value in a page or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedValue {
    pub info: ValueInfo,
    /// `None` if only keys are wanted.
    pub bytes: Option<Arc<[u8]>>,
}

impl From<VersionedValue> for ListedValue {
    fn from(value: VersionedValue) -> ListedValue {
        ListedValue { info: value.info(), bytes: Some(value.bytes) }
    }
}

/// Keys in order. If `is_cut`, there may be more after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    pub keys: Vec<(Key, ListedValue)>,
    pub is_cut: bool,
    /// The revision of the store when it was read.
    pub revision: Revision,
}

/// Collects a page until it reaches one of its limits.
#[derive(Debug)]
pub struct PageBuilder {
    page: KeyPage,
    keys_max: usize,
    bytes_left: usize,
    keys_only: bool,
}

impl PageBuilder {
    pub fn new(range: &KeyRange, revision: Revision) -> PageBuilder {
        let page = KeyPage { revision, ..KeyPage::default() };
        PageBuilder {
            page,
            keys_max: range.keys_max,
            bytes_left: range.bytes_max,
            keys_only: range.keys_only,
        }
    }

    /// Adds a key. Returns false, and marks the page as cut, if there is no room for the key.
    pub fn add(&mut self, key: Key, value: impl Into<ListedValue>) -> bool {
        let has_room = self.page.keys.is_empty() || self.bytes_left > 0;
        if self.page.keys.len() >= self.keys_max || !has_room {
            self.page.is_cut = true;
            return false;
        }
        let mut value = value.into();
        value.bytes = value.bytes.filter(|_| !self.keys_only);
        let value_bytes = value.bytes.as_ref().map_or(0, |bytes| bytes.len());
        self.bytes_left = self.bytes_left.saturating_sub(key.len() + value_bytes);
        self.page.keys.push((key, value));
        true
    }

    pub fn finish(self) -> KeyPage {
        self.page
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or rejects a write for another reason. Nothing was committed, and a retry may
    /// succeed.
    #[error("the disk takes no more: {0}")]
    NoSpace(String),
    /// Another process has locked the store for longer than a request may wait.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// The state on the disk is unknown, so the process must end.
    #[error("the store failed: {0}")]
    Broken(String),
}

/// Keeps keys. Calls may block, and only one thread writes.
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// Returns the name of the engine.
    fn name(&self) -> &'static str;

    /// True if a read may wait for a disk, so that an event loop must not call it.
    fn reads_block(&self) -> bool;

    /// Returns the revision of the last mutation.
    fn revision(&self) -> Revision;

    fn usage(&self) -> KeyUsage;

    /// Returns a value, even if it has expired and is not removed yet.
    fn get(&self, key: &Key) -> Result<Option<VersionedValue>, StoreError>;

    /// Returns the size, revision and expiry of a value. Engines that can read these without the bytes do so.
    fn info(&self, key: &Key) -> Result<Option<ValueInfo>, StoreError> {
        Ok(self.get(key)?.map(|value| value.info()))
    }

    /// Returns keys in order, all read at one moment.
    fn page(&self, range: &KeyRange) -> Result<KeyPage, StoreError>;

    /// Returns keys that have expired, in the order of their expiry.
    fn expired(&self, now_ms: u64, keys_max: usize) -> Result<Vec<Key>, StoreError>;

    /// Returns the time at which the next key expires, if any does.
    fn next_expiry(&self) -> Result<Option<u64>, StoreError>;

    /// Writes the whole group or nothing. When this returns, the group is as durable as the engine promises,
    /// and reads see it.
    fn write(&self, group: MutationGroup<'_>) -> Result<(), StoreError>;

    /// Returns the space of the engine's file system; `None` if the engine has none, or cannot tell.
    fn space(&self) -> Option<Space> {
        None
    }

    /// Runs work that may follow a write. Called after the write is answered.
    fn tidy(&self) {}

    /// Starts a read of all keys as they are now, while they continue to change.
    fn snapshot(&self) -> Result<Box<dyn KeySnapshot>, StoreError>;
}

/// All keys at one moment, read in order.
pub trait KeySnapshot: Send {
    fn revision(&self) -> Revision;

    /// Returns the next keys, about `bytes_max` bytes of them. An empty list is the end.
    fn next(&mut self, bytes_max: usize) -> Result<Vec<(Key, ListedValue)>, StoreError>;
}
