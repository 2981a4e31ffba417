//! The thread that commits. Requests that arrive during a commit share the next one.

use super::clock::Clock;
use super::{Feed, KeyLimits};
use crate::metrics::{KvdMetrics, MutationLabel};
use crate::store::contract::{KeyStore, Mutation, MutationKind, StoreError};
use crate::store::evaluation::{Action, Evaluation, OperationOutcome, Refusal, Transaction};
use kit::http::body::BodyRoom;
use kit::lifecycle::readiness::Readiness;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Limits on one commit. The transaction that reaches a limit is still included; later ones wait for the next
/// commit.
const TRANSACTIONS_MAX: usize = 1024;
const BYTES_MAX: usize = 8 << 20;

/// Limit on the keys that one commit expires. The next commits expire the others, so that requests do not
/// wait for all of them.
const EXPIRED_MAX: usize = 1000;

/// Limit on the sleep until a key expires, because the host's clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Interval between retries while the store does not accept all writes.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The name of the reason in `/ready` while the store does not accept all writes.
const BLOCKER: &str = "store";

/// A transaction that waits for its commit.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) transaction: Transaction,
    pub(super) reply: oneshot::Sender<Result<Vec<OperationOutcome>, Refusal>>,
    /// The share of the memory for requests. It is kept until the answer, even if the client has disconnected.
    pub(super) room: BodyRoom,
}

#[derive(Debug)]
pub(super) enum CommitCommand {
    Commit(Submission),
    Close,
}

pub(super) struct Committer {
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) commands: Receiver<CommitCommand>,
    pub(super) feed: Arc<Feed>,
    pub(super) clock: Arc<Clock>,
    pub(super) limits: KeyLimits,
    pub(super) readiness: Readiness,
    pub(super) metrics: KvdMetrics,
}

/// The writes that the store accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Acceptance {
    All,
    /// The disk has less free space than `--min-free`: only writes that do not grow the keys.
    NoGrowth(String),
    /// The last commit failed.
    Nothing(StoreError),
}

/// True if the thread ends after this commit.
type IsLast = bool;

impl Committer {
    /// Commits until the keyspace is closed. An error means that the state of the store is unknown.
    pub(super) fn run(self) -> Result<(), StoreError> {
        let mut acceptance = Acceptance::All;
        loop {
            // Only this thread writes, so the time is still right after the wait.
            let next_expiry = self.store.next_expiry();
            let (submissions, is_last) = self.wait(&acceptance, &next_expiry);
            let now = self.commit(submissions, &next_expiry, &acceptance);
            if let Acceptance::Nothing(StoreError::Broken(why)) = now {
                return Err(StoreError::Broken(why));
            }
            if is_last {
                return Ok(());
            }
            acceptance = now;
        }
    }

    /// Waits for transactions, for a key to expire, or for the time of a retry.
    fn wait(
        &self,
        acceptance: &Acceptance,
        next_expiry: &Result<Option<u64>, StoreError>,
    ) -> (Vec<Submission>, IsLast) {
        let sleep = match (acceptance, next_expiry) {
            (Acceptance::Nothing(_), _) => Some(RETRY_EVERY),
            (Acceptance::NoGrowth(_), expiry) => {
                Some(self.until(expiry).unwrap_or(RETRY_EVERY).min(RETRY_EVERY))
            }
            (Acceptance::All, expiry) => self.until(expiry),
        };
        let first = match sleep {
            Some(sleep) => self.commands.recv_timeout(sleep),
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut submissions = Vec::new();
        let mut bytes = 0;
        let mut next = match first {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => return (submissions, false),
            Err(RecvTimeoutError::Disconnected) => return (submissions, true),
        };
        while let Some(command) = next {
            let CommitCommand::Commit(submission) = command else { return (submissions, true) };
            bytes += length(&submission.transaction);
            submissions.push(submission);
            let has_room = submissions.len() < TRANSACTIONS_MAX && bytes < BYTES_MAX;
            next = if has_room { self.commands.try_recv().ok() } else { None };
        }
        (submissions, false)
    }

    /// Returns the time until a key expires. A failed read is reported by the next commit.
    fn until(&self, next_expiry: &Result<Option<u64>, StoreError>) -> Option<Duration> {
        let expires_ms = next_expiry.as_ref().ok().copied()??;
        let wait_ms = expires_ms.saturating_sub(self.clock.now_ms());
        Some(Duration::from_millis(wait_ms).min(SLEEP_MAX))
    }

    /// Commits all transactions as one group, then answers them. Refusals are also answered only after the
    /// commit, because they may depend on its mutations. After a failed commit, even an empty group is written,
    /// to learn whether the store accepts writes again.
    fn commit(
        &self,
        submissions: Vec<Submission>,
        next_expiry: &Result<Option<u64>, StoreError>,
        before: &Acceptance,
    ) -> Acceptance {
        let now_ms = self.clock.now_ms();
        let no_growth = self.disk_shortage();
        let mut evaluation = Evaluation::new(&*self.store, now_ms, self.limits.bytes_max);
        evaluation.no_growth.clone_from(&no_growth);
        let is_due = next_expiry.as_ref().map_or(true, |next| next.is_some_and(|next| next <= now_ms));
        let mut result = if is_due { evaluation.expire(EXPIRED_MAX) } else { Ok(()) };
        let mut answers = Vec::with_capacity(submissions.len());
        for Submission { transaction, reply, room } in submissions {
            let answer = match &result {
                Ok(()) => evaluation.add(transaction),
                Err(error) => Err(error.clone().into()),
            };
            if let Err(Refusal::Store(error)) = &answer {
                result = Err(error.clone());
            }
            answers.push((reply, answer, room));
        }
        let has_failed = matches!(before, Acceptance::Nothing(_));
        if result.is_ok() && (has_failed || !evaluation.group().mutations.is_empty()) {
            let begun = Instant::now();
            self.feed.writing.send_replace(Some(evaluation.group().revision));
            result = self.store.write(evaluation.group());
            self.metrics.commits.inc();
            self.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        }
        let acceptance = match (&result, no_growth) {
            (Err(error), _) => Acceptance::Nothing(error.clone()),
            (Ok(()), Some(shortage)) => Acceptance::NoGrowth(shortage),
            (Ok(()), None) => Acceptance::All,
        };
        self.report(before, &acceptance);
        if result.is_ok() {
            let mutations = evaluation.into_mutations();
            self.count(&mutations);
            self.feed.publish(mutations);
        }
        self.feed.writing.send_replace(None);
        for (reply, answer, room) in answers {
            drop(room);
            let answer = match &result {
                Ok(()) => answer,
                // This was evaluated against mutations that were not written, so the answer is the error.
                Err(error) => Err(error.clone().into()),
            };
            // Sending fails if the client has disconnected.
            let _ = reply.send(answer);
        }
        self.store.tidy();
        acceptance
    }

    /// Returns the reason why the keys must not grow, if there is one. If the engine does not know its free
    /// space, `--min-free` is ignored.
    fn disk_shortage(&self) -> Option<String> {
        let (space, floor) = (self.store.space()?, self.limits.min_free);
        let free = space.available_bytes;
        floor.forbids(space, 0).then(|| format!("only {free} bytes are free, less than --min-free {floor}"))
    }

    fn report(&self, before: &Acceptance, now: &Acceptance) {
        let reason = match now {
            Acceptance::All => None,
            Acceptance::NoGrowth(shortage) => Some(shortage.clone()),
            Acceptance::Nothing(error) => {
                self.metrics.commit_errors.inc();
                Some(error.to_string())
            }
        };
        match reason {
            None if *before == Acceptance::All => {}
            None => {
                self.metrics.refuses_writes.set(0);
                self.readiness.clear(BLOCKER);
                tracing::info!(event = "writes_accepted", "the store accepts all writes again");
            }
            Some(reason) => {
                self.metrics.refuses_writes.set(1);
                if *before == Acceptance::All {
                    tracing::error!(
                        event = "writes_refused",
                        reason,
                        "the store refuses writes; reads go on"
                    );
                }
                self.readiness.block(BLOCKER, reason);
            }
        }
    }

    fn count(&self, mutations: &[Mutation]) {
        for mutation in mutations {
            let kind = match mutation.kind {
                MutationKind::Put { .. } => "put",
                MutationKind::Delete => "delete",
                MutationKind::Expire => "expire",
            };
            self.metrics.mutations.get_or_create(&MutationLabel { kind }).inc();
        }
    }
}

fn length(transaction: &Transaction) -> usize {
    let value = |action: &Action| match action {
        Action::Put { bytes, .. } => bytes.len(),
        Action::Delete | Action::Check => 0,
    };
    transaction.operations.iter().map(|operation| operation.key.len() + value(&operation.action)).sum()
}
