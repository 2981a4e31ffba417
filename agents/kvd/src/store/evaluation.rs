//! Turns transactions into mutations: conditions, times to live and limits. Does no I/O of its own.

use super::contract::{
    KeyStore, KeyUsage, Mutation, MutationGroup, MutationKind, Revision, StoreError, VersionedValue,
};
use super::key::Key;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Operations that are applied together or not at all. Their conditions see the keys as they were before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub operations: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub key: Key,
    pub condition: Condition,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Put {
        bytes: Arc<[u8]>,
        ttl_ms: Option<u64>,
    },
    Delete,
    /// Changes nothing; only its condition counts.
    Check,
}

/// HTTP's conditions on the present revision of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub if_match: Option<Matcher>,
    pub if_none_match: Option<Matcher>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// `*`: any value, but the key must exist.
    Any,
    OneOf(Vec<Revision>),
}

impl Matcher {
    pub fn matches(&self, present: Option<Revision>) -> bool {
        match (self, present) {
            (_, None) => false,
            (Matcher::Any, Some(_)) => true,
            (Matcher::OneOf(revisions), Some(present)) => revisions.contains(&present),
        }
    }
}

impl Condition {
    pub fn holds(&self, present: Option<Revision>) -> bool {
        self.if_match.as_ref().is_none_or(|matcher| matcher.matches(present))
            && !self.if_none_match.as_ref().is_some_and(|matcher| matcher.matches(present))
    }
}

/// The result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationOutcome {
    /// The revision before the operation, if the key existed.
    pub before: Option<Revision>,
    /// The revision of the mutation; `None` if nothing changed.
    pub revision: Option<Revision>,
}

/// The reason why a transaction changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{}", condition_failed(.key, *.found))]
    ConditionFailed { operation: usize, key: Key, found: Option<Revision> },
    #[error("key {0:?} occurs twice in one batch")]
    Twice(Key),
    #[error("the keys would take more than {bytes_max} bytes")]
    Full { bytes_max: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn condition_failed(key: &Key, found: Option<Revision>) -> String {
    match found {
        Some(revision) => format!("the condition on key {key:?} failed: its revision is {revision}"),
        None => format!("the condition on key {key:?} failed: there is no such key"),
    }
}

/// Collects the mutations of several transactions, to be written to the store together.
#[derive(Debug)]
pub struct Evaluation<'a> {
    store: &'a dyn KeyStore,
    now_ms: u64,
    /// The limit on [`KeyUsage::cost`].
    bytes_max: u64,
    /// The values of the keys that differ from the store.
    changed: HashMap<Key, Option<VersionedValue>>,
    mutations: Vec<Mutation>,
    usage: KeyUsage,
    revision: Revision,
}

impl<'a> Evaluation<'a> {
    pub fn new(store: &'a dyn KeyStore, now_ms: u64, bytes_max: u64) -> Evaluation<'a> {
        let (usage, revision) = (store.usage(), store.revision());
        let (changed, mutations) = (HashMap::new(), Vec::new());
        Evaluation { store, now_ms, bytes_max, changed, mutations, usage, revision }
    }

    /// Expires up to `keys_max` keys.
    pub fn expire(&mut self, keys_max: usize) -> Result<(), StoreError> {
        for key in self.store.expired(self.now_ms, keys_max)? {
            if let Some(value) = self.stored(&key)?.filter(|value| value.is_expired(self.now_ms)) {
                self.usage.remove(&key, &value);
                self.mutate(key, MutationKind::Expire);
            }
        }
        Ok(())
    }

    /// Adds the mutations of a transaction, or rejects all of it.
    pub fn add(&mut self, transaction: Transaction) -> Result<Vec<OperationOutcome>, Refusal> {
        let before = self.check(&transaction)?;
        let mut outcomes = Vec::with_capacity(before.len());
        for (Operation { key, action, .. }, stored) in transaction.operations.into_iter().zip(before) {
            let live = stored.as_ref().filter(|value| !value.is_expired(self.now_ms));
            let before = live.map(|value| value.revision);
            let kind = match action {
                Action::Put { bytes, ttl_ms } => {
                    let expires = ttl_ms.and_then(|ttl| NonZeroU64::new(self.now_ms.saturating_add(ttl)));
                    Some(MutationKind::Put { bytes, expires_ms: expires })
                }
                Action::Delete => before.map(|_| MutationKind::Delete),
                Action::Check => None,
            };
            let revision = kind.map(|kind| {
                if let Some(value) = &stored {
                    self.usage.remove(&key, value);
                }
                self.mutate(key, kind)
            });
            outcomes.push(OperationOutcome { before, revision });
        }
        Ok(outcomes)
    }

    /// Checks the whole transaction. Returns the stored value of each operation's key.
    fn check(&self, transaction: &Transaction) -> Result<Vec<Option<VersionedValue>>, Refusal> {
        let operations = &transaction.operations;
        let mut after = self.usage;
        let mut stored = Vec::with_capacity(operations.len());
        let mut keys: Vec<&Key> = operations.iter().map(|operation| &operation.key).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Refusal::Twice(twice[0].clone()));
        }
        for (index, Operation { key, condition, action }) in operations.iter().enumerate() {
            let value = self.stored(key)?;
            let live = value.as_ref().filter(|value| !value.is_expired(self.now_ms));
            let found = live.map(|value| value.revision);
            if !condition.holds(found) {
                return Err(Refusal::ConditionFailed { operation: index, key: key.clone(), found });
            }
            if let (Action::Put { .. } | Action::Delete, Some(value)) = (action, &value) {
                after.remove(key, value);
            }
            if let Action::Put { bytes, .. } = action {
                after.add(key, &VersionedValue { bytes: bytes.clone(), revision: 0, expires_ms: None });
            }
            stored.push(value);
        }
        // Writes that lower the cost are accepted even above the limit. Otherwise there would be no way back
        // below it.
        if after.cost() > self.bytes_max && after.cost() > self.usage.cost() {
            return Err(Refusal::Full { bytes_max: self.bytes_max });
        }
        Ok(stored)
    }

    /// Returns the value that the key has after the mutations so far.
    fn stored(&self, key: &Key) -> Result<Option<VersionedValue>, StoreError> {
        match self.changed.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.store.get(key),
        }
    }

    /// Adds one mutation with the next revision. The caller must subtract the old value from the usage first.
    fn mutate(&mut self, key: Key, kind: MutationKind) -> Revision {
        self.revision += 1;
        let mutation = Mutation { key: key.clone(), revision: self.revision, kind };
        let value = mutation.value();
        if let Some(value) = &value {
            self.usage.add(&key, value);
        }
        self.changed.insert(key, value);
        self.mutations.push(mutation);
        self.revision
    }

    pub fn group(&self) -> MutationGroup<'_> {
        MutationGroup { mutations: &self.mutations, usage: self.usage, revision: self.revision }
    }

    pub fn into_mutations(self) -> Vec<Mutation> {
        self.mutations
    }
}
