//! Writes batches to the file, and keeps the state of the file: if it accepts lines, and why not.

use super::{Intake, IntakeState, NotSafe, READ_BYTES, WRITE_AT_BYTES};
use crate::file::appender::Appender;
use crate::file::write_error::WriteError;
use crate::metrics::gauge;
use std::time::{Duration, Instant};

/// Largest capacity that a batch keeps after a long line made it grow.
const BATCH_CAPACITY_MAX: usize = 4 * READ_BYTES;
/// Interval for retrying a failed write.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// Interval for retrying after an error that passes within moments.
const PASSING_RETRY_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) position: u64,
    pub(super) block: Option<BlockReason>,
}

/// Reasons to take no lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockReason {
    /// The error passes within moments.
    Passing,
    /// The file accepts no more bytes; what it has is safe.
    Full,
    /// The written lines may be in no file that anybody can read.
    Unnamed,
}

impl From<&WriteError> for BlockReason {
    fn from(error: &WriteError) -> BlockReason {
        match error {
            WriteError::Passing => BlockReason::Passing,
            WriteError::Write(_) | WriteError::LittleSpace { .. } => BlockReason::Full,
            WriteError::NoName(_) | WriteError::NotCarriedOver(_) | WriteError::OtherWriter(_) => {
                BlockReason::Unnamed
            }
        }
    }
}

impl Intake {
    /// True while the file accepts no lines, so that no more may be taken from senders.
    pub fn is_blocked(&self) -> bool {
        self.written.borrow().block.is_some()
    }

    /// True if the written lines may be in no file that anybody can read.
    pub fn is_unnamed(&self) -> bool {
        self.written.borrow().block == Some(BlockReason::Unnamed)
    }

    /// Resolves when the file accepts lines.
    pub async fn room(&self) {
        let mut written = self.written.subscribe();
        let _ = written.wait_for(|written| written.block.is_none()).await;
    }

    /// Resolves when the written lines may be in no file that anybody can read.
    pub async fn unnamed(&self) {
        let mut written = self.written.subscribe();
        let _ = written.wait_for(|written| written.block == Some(BlockReason::Unnamed)).await;
    }

    /// Writes the batch. When the file accepts only a part, the rest stays and no more lines are taken.
    pub fn flush(&self) {
        if self.pending_bytes() > 0 || self.is_blocked() {
            self.write_batch();
        }
    }

    /// Checks if the file could accept lines. After a failure, only an attempt to write the batch can tell.
    pub(super) fn look_at_file(&self) {
        if self.is_blocked() { self.write_batch() } else { self.attempt(0) }
    }

    pub(super) fn write_batch(&self) {
        self.attempt(self.pending_bytes());
    }

    /// Writes `bytes` of the batch: the whole batch, or 0 for a check without lines.
    fn attempt(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        let IntakeState { batch, appender, .. } = &mut *state;
        if bytes > 0 {
            self.metrics.writes.inc();
            self.syncer.dirty();
        }
        let (kept, error) = match appender.append(&batch[..bytes]) {
            Ok(()) => (bytes, None),
            Err(error) => (error.kept_bytes, Some(error.cause)),
        };
        batch.drain(..kept);
        if batch.capacity() > BATCH_CAPACITY_MAX && batch.is_empty() {
            batch.shrink_to(READ_BYTES + WRITE_AT_BYTES);
        }
        self.metrics.written_bytes.inc_by(kept as u64);
        self.report(appender);
        let position = state.taken - state.batch.len() as u64;
        self.settle(position, state.batch.len(), error);
    }

    /// Reports the file's events.
    fn report(&self, appender: &mut Appender) {
        let events = std::mem::take(&mut appender.events);
        self.metrics.file_bytes.set(gauge(appender.file_bytes()));
        self.metrics.reopened.inc_by(events.reopened);
        self.metrics.rotation_errors.inc_by(events.rotation_failed);
        self.metrics.rotations.inc_by(events.rotated);
        self.metrics.carried_over_bytes.inc_by(events.carried_over_bytes);
        if events.carried_over_bytes > 0 {
            self.syncer.invalidate();
        }
        let newest = appender.newest_finished();
        self.newest_finished
            .send_if_modified(|finished| std::mem::replace(finished, newest) != newest || events.room_wanted);
    }

    /// Records the result of the last write.
    fn settle(&self, position: u64, pending_bytes: usize, error: Option<WriteError>) {
        self.metrics.pending_bytes.set(gauge(pending_bytes as u64));
        let block = error.as_ref().map(BlockReason::from);
        if let Some(error) = error {
            // The writer may be waiting for the next iteration, and none comes while no lines are taken.
            self.turn.notify_one();
            if !error.is_passing() {
                self.metrics.write_errors.inc();
                self.readiness
                    .block("file", format!("{error}; no lines are read until writes succeed again"));
                self.block_is_reported.set(true);
            }
        } else if self.block_is_reported.take() {
            tracing::info!(event = "writes_resumed", "lines can be written again");
            self.readiness.clear("file");
        }
        self.metrics.blocked.set(i64::from(block.is_some()));
        self.written.send_modify(|written| *written = Written { position, block });
    }

    /// Resolves when everything up to `position` is in a file that has its name.
    pub(super) async fn reach_file(&self, position: u64) -> Result<(), NotSafe> {
        let settled = |written: &Written| match written.block {
            Some(BlockReason::Unnamed) => true,
            Some(BlockReason::Passing) => false,
            Some(BlockReason::Full) | None => written.position >= position,
        };
        let mut written = self.written.subscribe();
        let outcome = written.wait_for(settled).await.map_err(|_| NotSafe)?;
        if outcome.block == Some(BlockReason::Unnamed) { Err(NotSafe) } else { Ok(()) }
    }

    /// Makes the last attempt before the process ends, and waits for obstacles that pass within moments.
    pub async fn write_out(&self) {
        self.write_batch();
        while self.written.borrow().block == Some(BlockReason::Passing) {
            tokio::time::sleep(PASSING_RETRY_EVERY).await;
            self.write_batch();
        }
    }

    /// Follows an outside logrotate.
    pub fn reopen(&self) {
        self.flush();
        // The next look reports a failure.
        let _ = self.state.borrow_mut().appender.reopen();
        self.write_batch();
    }

    /// Writes at the end of each iteration in which something was added, and retries failed writes.
    pub async fn write_each_turn(&self) {
        loop {
            let block = self.written.borrow().block;
            match block {
                None => self.turn.notified().await,
                Some(BlockReason::Passing) => tokio::time::sleep(PASSING_RETRY_EVERY).await,
                Some(BlockReason::Full | BlockReason::Unnamed) => tokio::time::sleep(RETRY_EVERY).await,
            }
            self.flush();
            let mut pace = self.pace.get();
            let pause = pace.after_turn(Instant::now(), self.state.borrow().taken);
            if let Some(pause) = pause {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "pausing every reader at once is the point: see Pace"
                )]
                std::thread::sleep(pause);
                pace.resumed(Instant::now());
            }
            self.pace.set(pace);
        }
    }
}
