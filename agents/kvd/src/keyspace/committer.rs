//! The thread that commits. Requests that arrive during a commit share the next one.

use super::Feed;
use super::clock::Clock;
use crate::metrics::{KvdMetrics, MutationLabel};
use crate::store::contract::{KeyStore, Mutation, MutationKind, StoreError};
use crate::store::evaluation::{Action, Evaluation, OperationOutcome, Refusal, Transaction};
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

/// Interval between retries while the store refuses writes.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The name of the reason in `/ready` while the store refuses writes.
const BLOCKER: &str = "store";

pub(super) type CommitReply = oneshot::Sender<Result<Vec<OperationOutcome>, Refusal>>;

#[derive(Debug)]
pub(super) enum CommitCommand {
    Commit(Transaction, CommitReply),
    Close,
}

pub(super) struct Committer {
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) commands: Receiver<CommitCommand>,
    pub(super) feed: Arc<Feed>,
    pub(super) clock: Arc<Clock>,
    pub(super) bytes_max: u64,
    pub(super) readiness: Readiness,
    pub(super) metrics: KvdMetrics,
}

/// The reason why the thread woke up.
enum Wakeup {
    Commands(Vec<(Transaction, CommitReply)>, IsLast),
    /// A key expires, or the store is due for a retry.
    Timer,
}

/// True if the thread ends after this commit.
type IsLast = bool;

impl Committer {
    /// Commits until the keyspace is closed. An error means that the state of the store is unknown.
    pub(super) fn run(self) -> Result<(), StoreError> {
        let mut refuses = false;
        loop {
            let wakeup = self.wait(refuses)?;
            let (commands, is_last) = match wakeup {
                Wakeup::Commands(commands, is_last) => (commands, is_last),
                Wakeup::Timer => (Vec::new(), false),
            };
            match self.commit(commands, refuses) {
                Ok(()) => refuses = false,
                Err(StoreError::Broken(why)) => return Err(StoreError::Broken(why)),
                Err(StoreError::NoSpace(_) | StoreError::Busy(_)) => refuses = true,
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn wait(&self, refuses: bool) -> Result<Wakeup, StoreError> {
        let sleep = match refuses {
            true => Some(RETRY_EVERY),
            false => self.until_next_expiry(),
        };
        let first = match sleep {
            Some(sleep) => self.commands.recv_timeout(sleep),
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut commands = Vec::new();
        let mut bytes = 0;
        let mut next = match first {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => return Ok(Wakeup::Timer),
            Err(RecvTimeoutError::Disconnected) => return Ok(Wakeup::Commands(commands, true)),
        };
        while let Some(command) = next {
            let CommitCommand::Commit(transaction, reply) = command else {
                return Ok(Wakeup::Commands(commands, true));
            };
            bytes += length(&transaction);
            commands.push((transaction, reply));
            let has_room = commands.len() < TRANSACTIONS_MAX && bytes < BYTES_MAX;
            next = if has_room { self.commands.try_recv().ok() } else { None };
        }
        Ok(Wakeup::Commands(commands, false))
    }

    fn until_next_expiry(&self) -> Option<Duration> {
        // A failed read is reported by the next commit.
        let expires_ms = self.store.next_expiry().ok()??;
        let wait_ms = expires_ms.saturating_sub(self.clock.now_ms());
        Some(Duration::from_millis(wait_ms).min(SLEEP_MAX))
    }

    /// Commits all transactions as one group, then answers them. Refusals are also answered only after the
    /// commit, because they may depend on its mutations. A `probe` is written even if nothing changes.
    fn commit(&self, commands: Vec<(Transaction, CommitReply)>, probe: bool) -> Result<(), StoreError> {
        let mut evaluation = Evaluation::new(&*self.store, self.clock.now_ms(), self.bytes_max);
        let mut result = evaluation.expire(EXPIRED_MAX);
        let mut answers = Vec::with_capacity(commands.len());
        for (transaction, reply) in commands {
            let answer = match &result {
                Ok(()) => evaluation.add(transaction),
                Err(error) => Err(error.clone().into()),
            };
            if let Err(Refusal::Store(error)) = &answer {
                result = Err(error.clone());
            }
            answers.push((reply, answer));
        }
        if result.is_ok() && (probe || !evaluation.group().mutations.is_empty()) {
            let begun = Instant::now();
            self.feed.writing.send_replace(evaluation.group().revision);
            result = self.store.write(evaluation.group());
            self.metrics.commits.inc();
            self.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        }
        self.report(&result, probe);
        if result.is_ok() {
            let mutations = evaluation.into_mutations();
            self.count(&mutations);
            self.feed.publish(mutations);
        }
        self.feed.writing.send_replace(0);
        for (reply, answer) in answers {
            let answer = match &result {
                Ok(()) => answer,
                // This was evaluated against mutations that were not written, so the answer is the error.
                Err(error) => Err(error.clone().into()),
            };
            // Sending fails if the client has disconnected.
            let _ = reply.send(answer);
        }
        self.store.tidy();
        result
    }

    fn report(&self, result: &Result<(), StoreError>, refused_before: bool) {
        match result {
            Ok(()) if refused_before => {
                self.metrics.refuses_writes.set(0);
                self.readiness.clear(BLOCKER);
                tracing::info!(event = "writes_accepted", "the store accepts writes again");
            }
            Ok(()) => {}
            Err(error) => {
                self.metrics.commit_errors.inc();
                self.metrics.refuses_writes.set(1);
                self.readiness.block(BLOCKER, error.to_string());
                if !refused_before {
                    tracing::error!(event = "writes_refused", %error, "the store refuses writes; reads go on");
                }
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
