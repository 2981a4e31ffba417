//! Where all connections meet: one batch of whole lines, one file, one order.
//!
//! Everything here runs on one thread. A connection reads straight into the batch, behind the lines of others,
//! and what is no whole line yet is taken out again; when nobody has anything more to add, the batch is
//! written with one call. So a large read costs one read and one write and no copy, and many small reads share a
//! write.

use crate::file::journal::Journal;
use crate::file::obstacle::Obstacle;
use crate::file::rotation::Policy;
use crate::file::unsynced::Unsynced;
use crate::framing::{Framing, Tally};
use crate::line_format::{LineFormat, Stamp};
use crate::metrics::{LogdMetrics, Reason, gauge};
use crate::pace::Pace;
use bytes::BufMut;
use jiff::Timestamp;
use kit::readiness::Readiness;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;
use tokio::sync::{Notify, watch};
use tokio_util::io::poll_read_buf;

/// One read. The second-level cache decides: 256 KiB cost twice the CPU.
const READ_BYTES: usize = 64 * 1024;
/// A batch of this size is written at once, while it is still in the cache.
const WRITE_AT_BYTES: usize = 32 * 1024;
/// A batch that a long line made larger than this is given back.
const BATCH_CAPACITY_MAX: usize = 4 * READ_BYTES;
/// How often a write that failed is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// The same where it is a matter of moments.
const PASSING_RETRY_EVERY: Duration = Duration::from_millis(5);

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Bytes(usize),
    End,
}

/// Why a connection gets no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSafe;

/// The meeting point. Positions count the bytes of the batches since the start.
#[derive(Debug)]
pub struct Intake {
    state: RefCell<State>,
    /// Something is in the batch: write it when this turn's readers are done.
    turn: Notify,
    /// Up to where lines are in the file, and whether the last write succeeded.
    written: watch::Sender<Written>,
    /// Up to where lines are on the disk.
    synced: watch::Sender<Synced>,
    /// Somebody waits for a sync.
    sync_wanted: Notify,
    /// Something was written that a sync should cover before long.
    dirtied: Notify,
    /// Told after each rotation.
    newest_finished: watch::Sender<u64>,
    pace: Cell<Pace>,
    readiness: Readiness,
    /// What was synced is in another file now.
    resync: Cell<bool>,
    /// `/ready` says why nothing is taken.
    block_is_told: Cell<bool>,
    pub metrics: LogdMetrics,
}

#[derive(Debug)]
struct State {
    batch: Vec<u8>,
    /// Input that is not written as it came passes through here.
    scratch: Vec<u8>,
    journal: Journal,
    /// Position of the batch's end.
    taken: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    position: u64,
    block: Option<Block>,
}

/// Why nothing is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// For moments only.
    Passing,
    /// The file takes no more; what it took is safe.
    Full,
    /// What was written may be in no file that anybody can read.
    Unnamed,
}

impl From<&Obstacle> for Block {
    fn from(obstacle: &Obstacle) -> Block {
        match obstacle {
            Obstacle::Passing => Block::Passing,
            Obstacle::Write(_) | Obstacle::LittleSpace { .. } => Block::Full,
            Obstacle::NoName(_) | Obstacle::OtherWriter(_) => Block::Unnamed,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Synced {
    position: u64,
    failures: u64,
}

/// What an earlier run wrote may never have been synced, where it was killed: it is owed a sync as if this one had written it.
const LEFT_BEHIND: u64 = 1;

impl Intake {
    pub fn new(
        journal: Journal,
        metrics: LogdMetrics,
        readiness: Readiness,
        newest_finished: watch::Sender<u64>,
    ) -> Intake {
        metrics.file_bytes.set(gauge(journal.file_bytes()));
        let dirtied = Notify::new();
        dirtied.notify_one();
        let state = State {
            batch: Vec::with_capacity(READ_BYTES + WRITE_AT_BYTES),
            scratch: Vec::new(),
            journal,
            taken: LEFT_BEHIND,
        };
        Intake {
            state: RefCell::new(state),
            turn: Notify::new(),
            written: watch::Sender::new(Written { position: LEFT_BEHIND, block: None }),
            synced: watch::Sender::default(),
            sync_wanted: Notify::new(),
            dirtied,
            newest_finished,
            pace: Cell::new(Pace::begin()),
            readiness,
            resync: Cell::new(false),
            block_is_told: Cell::new(false),
            metrics,
        }
    }

    /// Reads once from `stream` into the batch, at most so many bytes.
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
            let stamp = Stamp::new(format, Timestamp::now(), peer);
            framing.take(scratch, &mut |line| stamp.write(line, batch))
        };
        self.metrics.tick();
        self.metrics.received_bytes.inc_by(bytes as u64);
        self.count(tally, "max_line");
        self.added(state, start);
        Poll::Ready(Ok(Progress::Bytes(bytes)))
    }

    /// The connection has ended: what it left unfinished becomes its last line.
    pub fn finish(&self, framing: &mut Framing, format: LineFormat, peer: SocketAddr) {
        self.add(format, peer, "max_line", |emit| framing.finish(emit));
    }

    /// Cuts an unfinished line for which there is no memory.
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
        let stamp = Stamp::new(format, Timestamp::now(), peer);
        let batch = &mut state.batch;
        let tally = lines(&mut |line| stamp.write(line, batch));
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

    /// True while the file takes no lines, so that no more may be taken from senders.
    pub fn is_blocked(&self) -> bool {
        self.written.borrow().block.is_some()
    }

    /// Resolves when the file takes lines.
    pub async fn room(&self) {
        let mut written = self.written.subscribe();
        let _ = written.wait_for(|written| written.block.is_none()).await;
    }

    /// Resolves while what was written may be in no file that anybody can read.
    pub async fn unnamed(&self) {
        let mut written = self.written.subscribe();
        let _ = written.wait_for(|written| written.block == Some(Block::Unnamed)).await;
    }

    /// Writes the batch. When the file takes only a part, the rest stays and nothing more is taken.
    pub fn flush(&self) {
        if self.pending_bytes() > 0 || self.is_blocked() {
            self.write_batch();
        }
    }

    /// Looks whether the file could take lines. While it could not, only a whole attempt tells.
    fn look_at_file(&self) {
        if self.is_blocked() { self.write_batch() } else { self.attempt(0) }
    }

    fn write_batch(&self) {
        self.attempt(self.pending_bytes());
    }

    /// Writes so many bytes of the batch, all or none.
    fn attempt(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        let State { batch, journal, .. } = &mut *state;
        if bytes > 0 {
            self.metrics.writes.inc();
            self.dirtied.notify_one();
        }
        let (kept, obstacle) = match journal.append(&batch[..bytes]) {
            Ok(()) => (bytes, None),
            Err(stopped) => (stopped.kept_bytes, Some(stopped.obstacle)),
        };
        batch.drain(..kept);
        if batch.capacity() > BATCH_CAPACITY_MAX && batch.is_empty() {
            batch.shrink_to(READ_BYTES + WRITE_AT_BYTES);
        }
        self.metrics.written_bytes.inc_by(kept as u64);
        self.tell(journal);
        let position = state.taken - state.batch.len() as u64;
        self.settle(position, state.batch.len(), obstacle);
    }

    /// Passes on what happened to the file.
    fn tell(&self, journal: &mut Journal) {
        let events = std::mem::take(&mut journal.events);
        self.metrics.file_bytes.set(gauge(journal.file_bytes()));
        self.metrics.reopened.inc_by(events.reopened);
        self.metrics.rotation_errors.inc_by(events.rotation_failed);
        self.metrics.rotations.inc_by(events.rotated);
        self.metrics.carried_over_bytes.inc_by(events.carried_over_bytes);
        if events.carried_over_bytes > 0 {
            // The syncs so far were of the file that is gone, one that is under way included.
            self.resync.set(true);
            self.synced.send_modify(|synced| synced.position = 0);
            self.dirtied.notify_one();
        }
        let newest = journal.newest_finished();
        self.newest_finished
            .send_if_modified(|finished| std::mem::replace(finished, newest) != newest || events.room_wanted);
    }

    /// Says how the last write went.
    fn settle(&self, position: u64, pending_bytes: usize, obstacle: Option<Obstacle>) {
        self.metrics.pending_bytes.set(gauge(pending_bytes as u64));
        let block = obstacle.as_ref().map(Block::from);
        if let Some(obstacle) = obstacle {
            // The writer may be waiting for a turn, and with nothing taken there will be none.
            self.turn.notify_one();
            if !obstacle.is_passing() {
                self.metrics.write_errors.inc();
                self.readiness.block("file", format!("{obstacle}; nothing is taken until that is over"));
                self.block_is_told.set(true);
            }
        } else if self.block_is_told.take() {
            tracing::info!("the file takes lines again");
            self.readiness.clear("file");
        }
        self.metrics.blocked.set(i64::from(block.is_some()));
        self.written.send_modify(|written| *written = Written { position, block });
    }

    /// Resolves when everything taken so far is as safe as `always` or the file itself makes it.
    pub async fn receipt(&self, always: bool, failures_before: u64) -> Result<(), NotSafe> {
        let position = self.state.borrow().taken;
        self.write_batch();
        self.reach_file(position).await?;
        if !always {
            return Ok(());
        }
        let mut synced = self.synced.subscribe();
        self.sync_wanted.notify_one();
        let failed = |synced: &Synced| synced.failures != failures_before;
        let outcome = synced.wait_for(|s| s.position >= position || failed(s)).await.map_err(|_| NotSafe)?;
        // The lost pages of a failed sync may be this connection's, and no later sync brings them back.
        if failed(&outcome) {
            return Err(NotSafe);
        }
        drop(outcome);
        // The file may have gone while the disk was waited for.
        self.look_at_file();
        self.reach_file(position).await?;
        if failed(&self.synced.borrow()) { Err(NotSafe) } else { Ok(()) }
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

    /// How many syncs have failed so far; compared at the end of a connection that began now.
    pub fn sync_failures(&self) -> u64 {
        self.synced.borrow().failures
    }

    /// How many bytes are owed to the file.
    pub fn pending_bytes(&self) -> usize {
        self.state.borrow().batch.len()
    }

    /// The last attempt before the process ends. What is a matter of moments is waited for.
    pub async fn write_out(&self) {
        self.write_batch();
        while self.written.borrow().block == Some(Block::Passing) {
            tokio::time::sleep(PASSING_RETRY_EVERY).await;
            self.write_batch();
        }
    }

    /// True if what was written may be in no file that anybody can read.
    pub fn is_unnamed(&self) -> bool {
        self.written.borrow().block == Some(Block::Unnamed)
    }

    /// Follows an outside logrotate.
    pub fn reopen(&self) {
        self.flush();
        // What it could not do is told by the next look.
        let _ = self.state.borrow_mut().journal.reopen();
        self.write_batch();
    }

    pub fn set_policy(&self, policy: Policy) {
        self.state.borrow_mut().journal.set_policy(policy);
    }

    /// What a sync started now makes safe, and up to where.
    pub fn begin_sync(&self) -> (Unsynced, u64) {
        let position = self.written.borrow().position;
        self.resync.set(false);
        (self.state.borrow_mut().journal.take_unsynced(), position)
    }

    /// Whether there is anything that the last sync did not cover.
    pub fn owes_sync(&self) -> bool {
        self.synced.borrow().position < self.written.borrow().position
    }

    pub fn end_sync(&self, position: u64, result: &io::Result<()>) {
        self.state.borrow_mut().journal.end_sync(result.is_ok());
        self.metrics.syncs.inc();
        match result {
            Ok(()) => self.readiness.clear("disk"),
            Err(error) => {
                self.metrics.sync_errors.inc();
                self.readiness.block("disk", format!("cannot force lines to the disk: {error}"));
                self.dirtied.notify_one(); // tried again by itself, not only with the next line
            }
        }
        self.synced.send_modify(|synced| match result {
            Ok(()) if self.resync.get() => {}
            Ok(()) => synced.position = position,
            Err(_) => synced.failures += 1,
        });
    }

    /// Resolves when a sync is due: at once when a receipt waits for it, `within` after a write otherwise.
    pub async fn sync_due(&self, within: Duration) {
        tokio::select! {
            () = self.sync_wanted.notified() => {}
            () = async { self.dirtied.notified().await; tokio::time::sleep(within).await } => {}
        }
    }

    /// A connection came or ended in this turn: somebody may wait for what comes next.
    pub fn hurry(&self) {
        let mut pace = self.pace.get();
        pace.hurry();
        self.pace.set(pace);
    }

    /// Writes at the end of each turn in which something was added, and tries again what failed.
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
