//! The point where all connections meet: one batch of whole lines, one file, one order.
//!
//! Everything here runs on one thread. A connection reads straight into the batch, after the lines of others,
//! and any unfinished line is taken out again. When no connection has more to add, the batch is written with
//! one call. A large read thus costs one read, one write and no copy; many small reads share a write.

use crate::file::appender::Appender;
use crate::file::rotation::Policy;
use crate::file::write_error::WriteError;
use crate::framing::{Framing, Tally};
use crate::line_format::{LineFormat, LineWriter};
use crate::metrics::{LogdMetrics, Reason, gauge};
use crate::pace::Pace;
use crate::syncer::{Synced, Syncer};
use bytes::BufMut;
use jiff::Timestamp;
use kit::lifecycle::readiness::Readiness;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;
use tokio::sync::{Notify, watch};
use tokio_util::io::poll_read_buf;

/// Size of one read. The second-level cache decides: 256 KiB cost twice the CPU.
const READ_BYTES: usize = 64 * 1024;
/// Size at which a batch is written at once, while it is still in the cache.
const WRITE_AT_BYTES: usize = 32 * 1024;
/// Largest capacity that a batch keeps after a long line made it grow.
const BATCH_CAPACITY_MAX: usize = 4 * READ_BYTES;
/// Interval for retrying a failed write.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// Interval for retrying after an error that passes within moments.
const PASSING_RETRY_EVERY: Duration = Duration::from_millis(5);

/// The result of one read.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Bytes(usize),
    End,
}

/// The lines of a connection may not be safe, so it gets no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSafe;

/// Collects the lines of all connections. Positions count the bytes of the batches since the start.
#[derive(Debug)]
pub struct Intake {
    state: RefCell<State>,
    /// Notified when something is in the batch: write it when this iteration's readers are done.
    turn: Notify,
    /// Position up to which lines are in the file, and the error of the last write, if any.
    written: watch::Sender<Written>,
    syncer: Syncer,
    /// Updated after each rotation.
    newest_finished: watch::Sender<u64>,
    pace: Cell<Pace>,
    readiness: Readiness,
    /// True if `/ready` reports why no lines are taken.
    block_is_reported: Cell<bool>,
    pub metrics: LogdMetrics,
}

#[derive(Debug)]
struct State {
    batch: Vec<u8>,
    /// Buffer for input that is not written unchanged.
    scratch: Vec<u8>,
    appender: Appender,
    /// Position of the batch's end.
    taken: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    position: u64,
    block: Option<Block>,
}

/// Reasons to take no lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// The error passes within moments.
    Passing,
    /// The file accepts no more bytes; what it has is safe.
    Full,
    /// The written lines may be in no file that anybody can read.
    Unnamed,
}

impl From<&WriteError> for Block {
    fn from(error: &WriteError) -> Block {
        match error {
            WriteError::Passing => Block::Passing,
            WriteError::Write(_) | WriteError::LittleSpace { .. } => Block::Full,
            WriteError::NoName(_) | WriteError::NotCarriedOver(_) | WriteError::OtherWriter(_) => {
                Block::Unnamed
            }
        }
    }
}

/// Position at the start. Lines of an earlier run may never have been synced if it was killed; this makes
/// them owed a sync, as if this run had written them.
const LEFT_BEHIND: u64 = 1;

impl Intake {
    pub fn new(
        appender: Appender,
        metrics: LogdMetrics,
        readiness: Readiness,
        newest_finished: watch::Sender<u64>,
    ) -> Intake {
        metrics.file_bytes.set(gauge(appender.file_bytes()));
        let state = State {
            batch: Vec::with_capacity(READ_BYTES + WRITE_AT_BYTES),
            scratch: Vec::new(),
            appender,
            taken: LEFT_BEHIND,
        };
        Intake {
            state: RefCell::new(state),
            turn: Notify::new(),
            written: watch::Sender::new(Written { position: LEFT_BEHIND, block: None }),
            syncer: Syncer::new(readiness.clone(), metrics.clone()),
            newest_finished,
            pace: Cell::new(Pace::begin()),
            readiness,
            block_is_reported: Cell::new(false),
            metrics,
        }
    }

    /// Reads once from `stream` into the batch, and at most `at_most` bytes.
    pub fn poll_take<S: AsyncRead + Unpin>(
        &self,
        context: &mut Context<'_>,
        stream: &mut S,
        at_most: usize,
        framing: &mut Framing,
        format: LineFormat,
        peer: SocketAddr,
    ) -> Poll<io::Result<Progress>> {
        let mut state = self.state.borrow_mut();
        let State { batch, scratch, .. } = &mut *state;
        let start = batch.len();
        let placed = framing.place(batch);
        batch.reserve(READ_BYTES);
        let read =
            poll_read_buf(Pin::new(stream), context, &mut (&mut *batch).limit(at_most.min(READ_BYTES)));
        let Poll::Ready(Ok(bytes @ 1..)) = read else {
            batch.truncate(start);
            return match ready!(read) {
                Ok(_) => Poll::Ready(Ok(Progress::End)),
                Err(e) => Poll::Ready(Err(e)),
            };
        };
        let tally = if format == LineFormat::Raw && framing.can_take_in_place(bytes) {
            framing.take_in_place(batch, start, placed)
        } else {
            scratch.clear();
            scratch.extend_from_slice(&batch[start + placed..]);
            batch.truncate(start);
            let writer = LineWriter::new(format, Timestamp::now(), peer);
            framing.take(scratch, &mut |line| writer.write(line, batch))
        };
        self.metrics.tick();
        self.metrics.received_bytes.inc_by(bytes as u64);
        self.count(tally, "max_line");
        self.added(state, start);
        Poll::Ready(Ok(Progress::Bytes(bytes)))
    }

    /// Ends a connection: its unfinished bytes become its last line.
    pub fn finish(&self, framing: &mut Framing, format: LineFormat, peer: SocketAddr) {
        self.add(format, peer, "max_line", |emit| framing.finish(emit));
    }

    /// Cuts an unfinished line for which no memory is left.
    pub fn split(&self, framing: &mut Framing, format: LineFormat, peer: SocketAddr) {
        self.add(format, peer, "max_held", |emit| framing.split_here(emit));
    }

    fn add(
        &self,
        format: LineFormat,
        peer: SocketAddr,
        why_split: &'static str,
        lines: impl FnOnce(&mut dyn FnMut(&[u8])) -> Tally,
    ) {
        let mut state = self.state.borrow_mut();
        let start = state.batch.len();
        let writer = LineWriter::new(format, Timestamp::now(), peer);
        let batch = &mut state.batch;
        let tally = lines(&mut |line| writer.write(line, batch));
        self.count(tally, why_split);
        self.added(state, start);
    }

    fn added(&self, mut state: std::cell::RefMut<'_, State>, start: usize) {
        let added = state.batch.len() - start;
        if added == 0 {
            return;
        }
        state.taken += added as u64;
        let full = state.batch.len() >= WRITE_AT_BYTES;
        drop(state);
        if full {
            self.flush();
        } else {
            self.turn.notify_one();
        }
    }

    fn count(&self, tally: Tally, why_split: &'static str) {
        self.metrics.lines.inc_by(tally.lines);
        if tally.splits > 0 {
            self.metrics.splits.get_or_create(&Reason { reason: why_split }).inc_by(tally.splits);
        }
        self.metrics.framing_errors.inc_by(tally.framing_errors);
    }

    /// True while the file accepts no lines, so that no more may be taken from senders.
    pub fn is_blocked(&self) -> bool {
        self.written.borrow().block.is_some()
    }

    /// Resolves when the file accepts lines.
    pub async fn room(&self) {
        let mut written = self.written.subscribe();
        let _ = written.wait_for(|written| written.block.is_none()).await;
    }

    /// Resolves when the written lines may be in no file that anybody can read.
    pub async fn unnamed(&self) {
        let mut written = self.written.subscribe();
        let _ = written.wait_for(|written| written.block == Some(Block::Unnamed)).await;
    }

    /// Writes the batch. When the file accepts only a part, the rest stays and no more lines are taken.
    pub fn flush(&self) {
        if self.pending_bytes() > 0 || self.is_blocked() {
            self.write_batch();
        }
    }

    /// Checks if the file could accept lines. After a failure, only an attempt to write the batch can tell.
    fn look_at_file(&self) {
        if self.is_blocked() { self.write_batch() } else { self.attempt(0) }
    }

    fn write_batch(&self) {
        self.attempt(self.pending_bytes());
    }

    /// Writes `bytes` of the batch, which are either all of it or none.
    fn attempt(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        let State { batch, appender, .. } = &mut *state;
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
        let block = error.as_ref().map(Block::from);
        if let Some(error) = error {
            // The writer may be waiting for the next iteration, and none comes while no lines are taken.
            self.turn.notify_one();
            if !error.is_passing() {
                self.metrics.write_errors.inc();
                self.readiness.block("file", format!("{error}; nothing is taken until that is over"));
                self.block_is_reported.set(true);
            }
        } else if self.block_is_reported.take() {
            tracing::info!(event = "writes_resumed", "lines can be written again");
            self.readiness.clear("file");
        }
        self.metrics.blocked.set(i64::from(block.is_some()));
        self.written.send_modify(|written| *written = Written { position, block });
    }

    /// Resolves when everything taken so far is safe: on the disk if `always`, otherwise in the file.
    pub async fn receipt(&self, always: bool, failures_before: u64) -> Result<(), NotSafe> {
        let position = self.state.borrow().taken;
        self.write_batch();
        self.reach_file(position).await?;
        if !always {
            return Ok(());
        }
        let mut synced = self.syncer.watch();
        let failed = |synced: &Synced| synced.failures != failures_before;
        loop {
            self.syncer.want();
            let reached = |synced: &Synced| synced.position >= position || failed(synced);
            let outcome = *synced.wait_for(reached).await.map_err(|_| NotSafe)?;
            // The pages lost by a failed sync may be this connection's, and no later sync brings them back.
            if failed(&outcome) {
                return Err(NotSafe);
            }
            // The file may have been removed while the sync ran. The copy of its content needs another sync.
            self.look_at_file();
            self.reach_file(position).await?;
            let now = self.syncer.synced();
            if reached(&now) && !failed(&now) {
                return Ok(());
            }
        }
    }

    /// Resolves when everything up to `position` is in a file that has its name.
    async fn reach_file(&self, position: u64) -> Result<(), NotSafe> {
        let settled = |written: &Written| match written.block {
            Some(Block::Unnamed) => true,
            Some(Block::Passing) => false,
            Some(Block::Full) | None => written.position >= position,
        };
        let mut written = self.written.subscribe();
        let outcome = written.wait_for(settled).await.map_err(|_| NotSafe)?;
        if outcome.block == Some(Block::Unnamed) { Err(NotSafe) } else { Ok(()) }
    }

    /// Returns the number of failed syncs so far. A connection compares its beginning with its end.
    pub fn sync_failures(&self) -> u64 {
        self.syncer.synced().failures
    }

    /// Returns the number of bytes still to be written to the file.
    pub fn pending_bytes(&self) -> usize {
        self.state.borrow().batch.len()
    }

    /// Makes the last attempt before the process ends, and waits for obstacles that pass within moments.
    pub async fn write_out(&self) {
        self.write_batch();
        while self.written.borrow().block == Some(Block::Passing) {
            tokio::time::sleep(PASSING_RETRY_EVERY).await;
            self.write_batch();
        }
    }

    /// True if the written lines may be in no file that anybody can read.
    pub fn is_unnamed(&self) -> bool {
        self.written.borrow().block == Some(Block::Unnamed)
    }

    /// Follows an outside logrotate.
    pub fn reopen(&self) {
        self.flush();
        // The next look reports a failure.
        let _ = self.state.borrow_mut().appender.reopen();
        self.write_batch();
    }

    pub fn set_policy(&self, policy: Policy) {
        self.state.borrow_mut().appender.set_policy(policy);
    }

    /// Runs syncs as they become due: at once for a receipt, otherwise `within` after a write.
    pub async fn sync_when_due(&self, within: Duration) {
        loop {
            self.syncer.due(within).await;
            let position = self.written.borrow().position;
            if self.syncer.synced().position >= position {
                continue;
            }
            let sync = self.state.borrow_mut().appender.begin_sync();
            let result = self.syncer.run(position, sync).await;
            self.state.borrow_mut().appender.end_sync(result.is_ok());
        }
    }

    /// Syncs everything that was written, before the process ends.
    pub fn sync_now(&self) {
        let position = self.written.borrow().position;
        let sync = self.state.borrow_mut().appender.begin_sync();
        let result = self.syncer.run_here(position, &sync);
        self.state.borrow_mut().appender.end_sync(result.is_ok());
    }

    /// Skips the next pause: a connection began or ended in this iteration, and somebody may wait for what
    /// comes next.
    pub fn skip_pause(&self) {
        let mut pace = self.pace.get();
        pace.skip_next();
        self.pace.set(pace);
    }

    /// Writes at the end of each iteration in which something was added, and retries failed writes.
    pub async fn write_each_turn(&self) {
        loop {
            let block = self.written.borrow().block;
            match block {
                None => self.turn.notified().await,
                Some(Block::Passing) => tokio::time::sleep(PASSING_RETRY_EVERY).await,
                Some(Block::Full | Block::Unnamed) => tokio::time::sleep(RETRY_EVERY).await,
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
