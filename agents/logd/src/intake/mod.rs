//! The point where all connections meet: one batch of whole lines, one file, one order.
//!
//! Everything here runs on one thread. A connection reads straight into the batch, after the lines of others.
//! An unfinished line is taken out again. When no connection has more to add, the batch is written with one
//! call. A large read thus costs one read, one write and no copy; many small reads share a write.

mod receipt;
mod writing;

pub use receipt::NotSafe;

use crate::file::appender::Appender;
use crate::file::rotation::RotationPolicy;
use crate::framing::{Framing, LineCounts};
use crate::line_format::{LineFormat, LineWriter};
use crate::metrics::{LogdMetrics, Reason, gauge};
use crate::pace::Pace;
use crate::syncer::Syncer;
use bytes::BufMut;
use jiff::Timestamp;
use kit::lifecycle::readiness::Readiness;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncRead;
use tokio::sync::{Notify, watch};
use tokio_util::io::poll_read_buf;
use writing::Written;

/// Size of one read. The second-level cache decides: 256 KiB cost twice the CPU.
const READ_BYTES: usize = 64 * 1024;
/// Size at which a batch is written at once, while it is still in the cache.
const WRITE_AT_BYTES: usize = 32 * 1024;

/// The result of one read.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Bytes(usize),
    End,
}

/// Collects the lines of all connections. Positions count the bytes of the batches since the start.
#[derive(Debug)]
pub struct Intake {
    state: RefCell<IntakeState>,
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
struct IntakeState {
    batch: Vec<u8>,
    /// Buffer for input that is not written unchanged.
    scratch: Vec<u8>,
    appender: Appender,
    /// Position of the batch's end.
    taken: u64,
}

/// Position at the start. If an earlier run was killed, its last lines may not be synced. A position above 0
/// requests a sync for them, as if this run had written them.
const LEFT_BEHIND: u64 = 1;

impl Intake {
    pub fn new(
        appender: Appender,
        metrics: LogdMetrics,
        readiness: Readiness,
        newest_finished: watch::Sender<u64>,
    ) -> Intake {
        metrics.file_bytes.set(gauge(appender.file_bytes()));
        let state = IntakeState {
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
        let IntakeState { batch, scratch, .. } = &mut *state;
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
        let counts = if format == LineFormat::Raw && framing.can_take_in_place(bytes) {
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
        self.count(counts, "max_line");
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
        lines: impl FnOnce(&mut dyn FnMut(&[u8])) -> LineCounts,
    ) {
        let mut state = self.state.borrow_mut();
        let start = state.batch.len();
        let writer = LineWriter::new(format, Timestamp::now(), peer);
        let batch = &mut state.batch;
        let counts = lines(&mut |line| writer.write(line, batch));
        self.count(counts, why_split);
        self.added(state, start);
    }

    fn added(&self, mut state: std::cell::RefMut<'_, IntakeState>, start: usize) {
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

    fn count(&self, counts: LineCounts, why_split: &'static str) {
        self.metrics.lines.inc_by(counts.lines);
        if counts.splits > 0 {
            self.metrics.splits.get_or_create(&Reason { reason: why_split }).inc_by(counts.splits);
        }
        self.metrics.framing_errors.inc_by(counts.framing_errors);
    }

    /// Returns the number of bytes still to be written to the file.
    pub fn pending_bytes(&self) -> usize {
        self.state.borrow().batch.len()
    }

    pub fn set_policy(&self, policy: RotationPolicy) {
        self.state.borrow_mut().appender.set_policy(policy);
    }

    /// Skips the next pause: a connection began or ended in this iteration, and somebody may wait for what
    /// comes next.
    pub fn skip_pause(&self) {
        let mut pace = self.pace.get();
        pace.skip_next();
        self.pace.set(pace);
    }
}
