//! A plain model of the keys, with which the engines are compared. It has no groups, pages or disks.

use super::contract::{KeyUsage, Revision};
use super::evaluation::{Action, Condition, Matcher, Operation, OperationOutcome, Refusal, Transaction};
use super::key::Key;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelValue {
    pub bytes: Vec<u8>,
    pub revision: Revision,
    pub expires_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyModel {
    pub keys: BTreeMap<Key, ModelValue>,
    pub revision: Revision,
    pub now_ms: u64,
}

/// The expected answer to a transaction. The limit in a refusal is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelAnswer {
    Done(Vec<OperationOutcome>),
    ConditionFailed(usize, Option<Revision>),
    Twice,
    Full,
}

impl From<Result<Vec<OperationOutcome>, Refusal>> for ModelAnswer {
    fn from(result: Result<Vec<OperationOutcome>, Refusal>) -> ModelAnswer {
        match result {
            Ok(outcomes) => ModelAnswer::Done(outcomes),
            Err(Refusal::ConditionFailed { operation, found, .. }) => {
                ModelAnswer::ConditionFailed(operation, found)
            }
            Err(Refusal::Twice(_)) => ModelAnswer::Twice,
            Err(Refusal::Full { .. }) => ModelAnswer::Full,
            Err(refusal @ (Refusal::NoGrowth(_) | Refusal::Store(_))) => panic!("{refusal}"),
        }
    }
}

impl KeyModel {
    /// Returns the present revision of a key, unless the key has expired.
    pub fn live(&self, key: &Key) -> Option<Revision> {
        self.keys.get(key).filter(|value| !self.is_over(value)).map(|value| value.revision)
    }

    fn is_over(&self, value: &ModelValue) -> bool {
        value.expires_ms.is_some_and(|expires| expires <= self.now_ms)
    }

    /// Removes every expired key, in the order of expiry.
    pub fn expire(&mut self) {
        let over = self.keys.iter().filter(|(_, value)| self.is_over(value));
        let over: BTreeSet<_> = over.map(|(key, value)| (value.expires_ms, key.clone())).collect();
        for (_, key) in over {
            self.keys.remove(&key);
            self.revision += 1;
        }
    }

    pub fn usage(&self) -> KeyUsage {
        let bytes = self.keys.iter().map(|(key, value)| key.len() + value.bytes.len()).sum::<usize>();
        KeyUsage { keys: self.keys.len() as u64, bytes: bytes as u64 }
    }

    pub fn apply(&mut self, transaction: &Transaction, bytes_max: u64) -> ModelAnswer {
        let operations = &transaction.operations;
        let distinct: BTreeSet<_> = operations.iter().map(|operation| &operation.key).collect();
        if distinct.len() < operations.len() {
            return ModelAnswer::Twice;
        }
        for (index, Operation { key, condition, .. }) in operations.iter().enumerate() {
            if !holds(condition, self.live(key)) {
                return ModelAnswer::ConditionFailed(index, self.live(key));
            }
        }
        let mut after = self.clone();
        let outcomes = operations.iter().map(|operation| after.operate(operation)).collect();
        if after.usage().cost() > bytes_max && after.usage().cost() > self.usage().cost() {
            return ModelAnswer::Full;
        }
        *self = after;
        ModelAnswer::Done(outcomes)
    }

    fn operate(&mut self, operation: &Operation) -> OperationOutcome {
        let before = self.live(&operation.key);
        let changes = match &operation.action {
            Action::Put { bytes, ttl_ms } => {
                self.revision += 1;
                let expires_ms = ttl_ms.map(|ttl| self.now_ms + ttl);
                let value = ModelValue { bytes: bytes.to_vec(), revision: self.revision, expires_ms };
                self.keys.insert(operation.key.clone(), value);
                true
            }
            Action::Delete if before.is_some() => {
                self.revision += 1;
                self.keys.remove(&operation.key).is_some()
            }
            Action::Delete | Action::Check => false,
        };
        OperationOutcome { before, revision: changes.then_some(self.revision) }
    }
}

fn holds(condition: &Condition, present: Option<Revision>) -> bool {
    let is = |matcher: &Matcher| match (matcher, present) {
        (Matcher::Any, present) => present.is_some(),
        (Matcher::OneOf(revisions), Some(present)) => revisions.contains(&present),
        (Matcher::OneOf(_), None) => false,
    };
    let wanted = condition.if_match.as_ref().map(is).unwrap_or(true);
    let unwanted = condition.if_none_match.as_ref().map(is).unwrap_or(false);
    wanted && !unwanted
}
