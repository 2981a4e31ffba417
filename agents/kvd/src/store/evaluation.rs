//! Turns transactions into mutations: conditions, times to live and limits. Does no I/O of its own.

use super::contract::{
    KeyStore, KeyUsage, Mutation, MutationGroup, MutationKind, Revision, StoreError, ValueInfo, count,
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
    /// The disk has too little free space for more keys.
    #[error("the keys cannot grow: {0}")]
    NoGrowth(String),
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
    /// The reason why the keys must not grow, if there is one.
    pub no_growth: Option<String>,
    /// The keys that differ from the store.
    changed: HashMap<Key, Option<ValueInfo>>,
    mutations: Vec<Mutation>,
    usage: KeyUsage,
    revision: Revision,
}

impl<'a> Evaluation<'a> {
    pub fn new(store: &'a dyn KeyStore, now_ms: u64, bytes_max: u64) -> Evaluation<'a> {
        let (usage, revision) = (store.usage(), store.revision());
        let (changed, mutations) = (HashMap::new(), Vec::new());
        Evaluation { store, now_ms, bytes_max, no_growth: None, changed, mutations, usage, revision }
    }

    /// Expires up to `keys_max` keys.
    pub fn expire(&mut self, keys_max: usize) -> Result<(), StoreError> {
        for key in self.store.expired(self.now_ms, keys_max)? {
            if let Some(old) = self.present(&key)?.filter(|old| old.is_expired(self.now_ms)) {
                self.mutate(key, MutationKind::Expire, Some(old));
            }
        }
        Ok(())
    }

    /// Adds the mutations of a transaction, or rejects all of it.
    pub fn add(&mut self, transaction: Transaction) -> Result<Vec<OperationOutcome>, Refusal> {
        let present = self.check(&transaction)?;
        let mut outcomes = Vec::with_capacity(present.len());
        for (Operation { key, action, .. }, old) in transaction.operations.into_iter().zip(present) {
            let before = self.live(old).map(|old| old.revision);
            let kind = match action {
                Action::Put { bytes, ttl_ms } => {
                    let expires = ttl_ms.and_then(|ttl| NonZeroU64::new(self.now_ms.saturating_add(ttl)));
                    Some(MutationKind::Put { bytes, expires_ms: expires })
                }
                Action::Delete => before.map(|_| MutationKind::Delete),
                Action::Check => None,
            };
            let revision = kind.map(|kind| self.mutate(key, kind, old));
            outcomes.push(OperationOutcome { before, revision });
        }
        Ok(outcomes)
    }

    /// Checks the whole transaction. Returns the present state of each operation's key.
    fn check(&self, transaction: &Transaction) -> Result<Vec<Option<ValueInfo>>, Refusal> {
        let operations = &transaction.operations;
        let mut after = self.usage;
        let mut present = Vec::with_capacity(operations.len());
        let mut keys: Vec<&Key> = operations.iter().map(|operation| &operation.key).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Refusal::Twice(twice[0].clone()));
        }
        for (index, Operation { key, condition, action }) in operations.iter().enumerate() {
            let old = self.present(key)?;
            let found = self.live(old).map(|old| old.revision);
            if !condition.holds(found) {
                return Err(Refusal::ConditionFailed { operation: index, key: key.clone(), found });
            }
            if let (Action::Put { .. } | Action::Delete, Some(old)) = (action, old) {
                after.remove(key, old.bytes);
            }
            if let Action::Put { bytes, .. } = action {
                after.add(key, count(bytes.len()));
            }
            present.push(old);
        }
        // Writes that lower the cost are accepted even above the limit. Otherwise there would be no way back
        // below it.
        if after.cost() > self.usage.cost() {
            if after.cost() > self.bytes_max {
                return Err(Refusal::Full { bytes_max: self.bytes_max });
            }
            if let Some(reason) = &self.no_growth {
                return Err(Refusal::NoGrowth(reason.clone()));
            }
        }
        Ok(present)
    }

    /// Returns the state of a key after the mutations so far.
    fn present(&self, key: &Key) -> Result<Option<ValueInfo>, StoreError> {
        match self.changed.get(key) {
            Some(changed) => Ok(*changed),
            None => self.store.info(key),
        }
    }

    fn live(&self, present: Option<ValueInfo>) -> Option<ValueInfo> {
        present.filter(|present| !present.is_expired(self.now_ms))
    }

    /// Adds one mutation with the next revision. `old` is the present state of the key.
    fn mutate(&mut self, key: Key, kind: MutationKind, old: Option<ValueInfo>) -> Revision {
        self.revision += 1;
        let mutation = Mutation { key: key.clone(), revision: self.revision, kind };
        let new = mutation.info();
        if let Some(old) = old {
            self.usage.remove(&key, old.bytes);
        }
        if let Some(new) = new {
            self.usage.add(&key, new.bytes);
        }
        self.changed.insert(key, new);
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
