//! Holds the lines that were read and have no receipt yet: in memory, and in the spool while logd is away.
//!
//! The order is always: the batch in flight, then the spool, then memory. While the spool is not empty, the
//! next batch is its oldest segment. A batch in flight from memory moves to the spool before any younger
//! line.

use crate::flags::Flags;
use crate::outbox::{Batch, Outbox};
use crate::spool::{Added, Spool};
use crate::tally::Tally;
use kit::exit::Fatal;
use std::io;
use std::rc::Rc;

/// The least number of segments in a spool, so that dropping the oldest one never drops most of it.
const SEGMENTS_MIN: usize = 4;

/// The lines between the input and the receipt.
#[derive(Debug)]
pub(crate) struct Backlog {
    outbox: Outbox,
    spool: Option<Spool>,
    in_flight: Option<(Rc<Batch>, BatchSource)>,
    /// True if an attempt has failed or stalled since the last receipt.
    away: bool,
    /// True if the message about a full spool was logged since the last receipt. Each message is logged once.
    said_full: bool,
    said_error: bool,
    dropped_lines: u64,
    buffer_bytes_max: usize,
    tally: Tally,
}

/// The place to which a batch in flight returns when it fails.
#[derive(Clone, Copy, Debug)]
enum BatchSource {
    Memory,
    Segment(u64),
}

impl Backlog {
    /// Opens the spool if there is one. Lines that an earlier run left in it are sent first.
    pub(crate) fn open(flags: &Flags) -> Result<Backlog, Fatal> {
        let mut batch_bytes_max = flags.batch_bytes;
        let mut spool = None;
        if let Some(directory) = &flags.spool {
            batch_bytes_max = batch_bytes_max.min(flags.spool_bytes / SEGMENTS_MIN);
            let opened =
                Spool::open(directory, batch_bytes_max as u64, flags.spool_bytes as u64, flags.spool_full)?;
            if !opened.is_empty() {
                tracing::info!(
                    event = "spool_found",
                    spool = %directory.display(),
                    lines = opened.lines(),
                    "sending the lines that an earlier run left in the spool"
                );
            }
            spool = Some(opened);
        }
        Ok(Backlog::new(batch_bytes_max, flags.buffer_bytes, spool))
    }

    fn new(batch_bytes_max: usize, buffer_bytes_max: usize, spool: Option<Spool>) -> Backlog {
        Backlog {
            outbox: Outbox::new(batch_bytes_max),
            spool,
            in_flight: None,
            away: false,
            said_full: false,
            said_error: false,
            dropped_lines: 0,
            buffer_bytes_max,
            tally: Tally::default(),
        }
    }

    pub(crate) fn push(&mut self, line: &[u8]) {
        self.outbox.push(line);
    }

    pub(crate) fn has_room(&self) -> bool {
        // `settle` makes room with drop-oldest, if necessary by dropping lines.
        self.bytes_in_memory() < self.buffer_bytes_max || (self.away && self.drops_oldest())
    }

    fn bytes_in_memory(&self) -> usize {
        let in_flight = match &self.in_flight {
            Some((batch, BatchSource::Memory)) => batch.bytes.len(),
            _ => 0,
        };
        self.outbox.bytes() + in_flight
    }

    fn drops_oldest(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::drops_oldest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outbox.is_empty() && self.in_flight.is_none() && self.spool.as_ref().is_none_or(Spool::is_empty)
    }

    pub(crate) fn has_spool(&self) -> bool {
        self.spool.is_some()
    }

    pub(crate) fn has_full_batch(&self) -> bool {
        self.outbox.has_full_batch() || self.spool.as_ref().is_some_and(|spool| !spool.is_empty())
    }

    pub(crate) fn lines(&self) -> u64 {
        let in_flight = match &self.in_flight {
            Some((batch, BatchSource::Memory)) => batch.lines,
            _ => 0,
        };
        self.outbox.lines() + in_flight + self.spool.as_ref().map_or(0, Spool::lines)
    }

    /// Takes the oldest batch. It is in flight until `delivered` or `failed` is called.
    pub(crate) fn take(&mut self) -> io::Result<Option<Rc<Batch>>> {
        let oldest = match self.oldest_spooled()? {
            Some((number, batch)) => Some((batch, BatchSource::Segment(number))),
            None => self.outbox.pop().map(|batch| (batch, BatchSource::Memory)),
        };
        self.in_flight = oldest.map(|(batch, home)| (Rc::new(batch), home));
        Ok(self.in_flight.as_ref().map(|(batch, _)| batch.clone()))
    }

    fn oldest_spooled(&mut self) -> io::Result<Option<(u64, Batch)>> {
        let Some(spool) = &mut self.spool else { return Ok(None) };
        loop {
            match spool.head() {
                Err((number, e)) if e.kind() == io::ErrorKind::NotFound => {
                    tracing::error!(
                        event = "segment_lost",
                        spool = %spool.directory().display(),
                        number,
                        "another program removed a segment of the spool: its lines are lost"
                    );
                    spool.forget(number);
                    self.dropped_lines += spool.take_dropped();
                }
                Err((_, e)) => return Err(e),
                Ok(head) => return Ok(head),
            }
        }
    }

    /// Removes the batch in flight after its receipt.
    pub(crate) fn delivered(&mut self) {
        let Some((batch, home)) = self.in_flight.take() else { return };
        self.tally.lines.add(batch.lines);
        self.tally.bytes.add(batch.bytes.len() as u64);
        self.tally.batches.add(1);
        if let (BatchSource::Segment(number), Some(spool)) = (home, &mut self.spool) {
            spool.remove(number);
        }
        self.end_absence();
    }

    /// Returns the batch in flight to its place after a failed attempt.
    pub(crate) fn failed(&mut self) {
        self.tally.retries.add(1);
        self.put_back();
        self.away = true;
        self.settle();
    }

    fn put_back(&mut self) {
        if let Some((batch, BatchSource::Memory)) = self.in_flight.take() {
            self.outbox.put_back(Rc::unwrap_or_clone(batch));
        }
    }

    /// Starts to spool because an attempt takes long. It may still succeed.
    pub(crate) fn stalled(&mut self) {
        self.away = true;
        self.settle();
    }

    /// While logd is away, moves the lines from memory to the spool. When the spool cannot take them,
    /// `drop-oldest` drops what exceeds the memory bound, so that the writer is not blocked.
    pub(crate) fn settle(&mut self) {
        if self.away && !self.settle_in_spool() && self.drops_oldest() {
            self.drop_from_memory();
        }
    }

    /// Returns false if lines are left in memory.
    fn settle_in_spool(&mut self) -> bool {
        if !self.settle_in_flight() {
            return false;
        }
        while let Some(batch) = self.outbox.pop() {
            if !self.spooled(&batch) {
                self.outbox.put_back(batch);
                return false;
            }
        }
        true
    }

    fn drop_from_memory(&mut self) {
        while self.bytes_in_memory() >= self.buffer_bytes_max
            && let Some(batch) = self.outbox.pop()
        {
            self.dropped_lines += batch.lines;
        }
    }

    /// Moves a batch in flight from memory to the spool first, since it is the oldest. The spool is empty
    /// then: otherwise one of its segments would be in flight.
    fn settle_in_flight(&mut self) -> bool {
        let Some((batch, BatchSource::Memory)) = &self.in_flight else { return true };
        let batch = batch.clone();
        if !self.spooled(&batch) {
            return false;
        }
        if let Some(number) = self.spool.as_mut().and_then(Spool::seal_last) {
            self.in_flight = Some((batch, BatchSource::Segment(number)));
        }
        true
    }

    fn spooled(&mut self, batch: &Batch) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        let in_flight = match self.in_flight {
            Some((_, BatchSource::Segment(number))) => Some(number),
            _ => None,
        };
        let added = spool.add(batch, in_flight);
        self.count_addition(batch, added)
    }

    /// Counts an addition to the spool, and logs an error once. Returns true if the batch was kept.
    fn count_addition(&mut self, batch: &Batch, added: io::Result<Added>) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        let dropped_lines = spool.take_dropped();
        let directory = spool.directory().display();
        if dropped_lines > 0 && self.dropped_lines == 0 {
            tracing::warn!(
                event = "spool_full",
                spool = %directory,
                "the spool is full: dropping the oldest lines"
            );
        }
        self.dropped_lines += dropped_lines;
        match added {
            Ok(Added::Kept) => {
                self.tally.spooled.add(batch.lines);
                return true;
            }
            Ok(Added::Full) if !self.said_full => {
                tracing::warn!(
                    event = "spool_full",
                    spool = %directory,
                    "the spool is full: nothing more is read until logd is back"
                );
                self.said_full = true;
            }
            Err(error) if !self.said_error => {
                let consequence = if spool.drops_oldest() {
                    "the oldest lines are dropped"
                } else {
                    "nothing more is read"
                };
                tracing::error!(
                    event = "spool_write_failed",
                    spool = %directory,
                    %error,
                    "cannot write to the spool: {consequence}"
                );
                self.said_error = true;
            }
            _ => {}
        }
        false
    }

    fn end_absence(&mut self) {
        self.away = false;
        self.said_full = false;
        self.said_error = false;
        let dropped_lines = std::mem::take(&mut self.dropped_lines);
        self.tally.dropped.add(dropped_lines);
        if dropped_lines > 0 {
            tracing::warn!(event = "lines_dropped", dropped_lines, "lines were dropped from the full spool");
        }
    }

    /// Moves what is left into the spool at the end, even above its bound. Returns the number of lost lines.
    pub(crate) fn close(mut self) -> u64 {
        self.put_back();
        let mut lost_lines = self.outbox.lines();
        if self.spool.is_some() {
            while let Some(batch) = self.outbox.pop() {
                let Some(spool) = &mut self.spool else { break };
                let added = spool.add_at_the_end(&batch);
                if !self.count_addition(&batch, added) {
                    break;
                }
                lost_lines -= batch.lines;
            }
        }
        if let Some(spool) = &mut self.spool
            && !spool.is_empty()
        {
            let directory = spool.directory().display().to_string();
            if let Err(error) = spool.sync() {
                tracing::warn!(
                    event = "spool_sync_failed",
                    spool = directory,
                    %error,
                    "cannot sync the spool"
                );
            }
            tracing::info!(
                event = "lines_kept",
                spool = directory,
                lines = spool.lines(),
                "lines are left in the spool for the next run"
            );
        }
        self.end_absence();
        self.tally.log();
        lost_lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::WhenFull;
    use proptest::prelude::*;
    use std::path::Path;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Take,
        Delivered,
        Failed,
        Stalled,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1_usize..60).prop_map(Step::Push),
            4 => Just(Step::Take),
            3 => Just(Step::Delivered),
            3 => Just(Step::Failed),
            2 => Just(Step::Stalled),
            1 => Just(Step::Restart),
        ]
    }

    fn open(directory: &Path, when_full: WhenFull) -> Backlog {
        Backlog::new(100, 200, Some(Spool::open(directory, 100, 400, when_full).unwrap()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        /// Checks that in any order of events, each line is delivered once and in order, or dropped and
        /// counted where that is allowed.
        #[test]
        fn lines_are_delivered_once_and_in_order(
            steps in prop::collection::vec(step(), 1..120),
            when_full in prop_oneof![Just(WhenFull::Wait), Just(WhenFull::DropOldest)],
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut backlog = open(directory.path(), when_full);
            let (mut pushed, mut delivered, mut dropped) = (0_u64, Vec::new(), 0);
            let mut in_flight: Option<Rc<Batch>> = None;
            let numbers = |batch: &Batch| -> Vec<u64> {
                let text = String::from_utf8(batch.bytes.clone()).unwrap();
                text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
            };
            for step in steps {
                match step {
                    Step::Push(length) if backlog.has_room() => {
                        backlog.push(format!("{pushed} {}\n", "x".repeat(length)).as_bytes());
                        backlog.settle();
                        pushed += 1;
                    }
                    Step::Take if in_flight.is_none() => in_flight = backlog.take().unwrap(),
                    Step::Delivered => {
                        if let Some(batch) = in_flight.take() {
                            delivered.extend(numbers(&batch));
                            backlog.delivered();
                        }
                    }
                    Step::Failed => {
                        in_flight = None;
                        backlog.failed();
                    }
                    Step::Stalled => backlog.stalled(),
                    Step::Restart => {
                        in_flight = None;
                        dropped += backlog.dropped_lines + backlog.tally.dropped.get();
                        let bytes_before = backlog.outbox.bytes();
                        let will_drop = when_full == WhenFull::DropOldest && bytes_before > 0;
                        let lines = backlog.lines();
                        prop_assert_eq!(backlog.close(), 0);
                        backlog = open(directory.path(), when_full);
                        prop_assert!(will_drop || backlog.lines() == lines);
                        dropped += lines - backlog.lines();
                    }
                    Step::Push(_) | Step::Take => {}
                }
            }
            if let Some(batch) = in_flight.take() {
                delivered.extend(numbers(&batch));
                backlog.delivered();
            }
            while let Some(batch) = backlog.take().unwrap() {
                delivered.extend(numbers(&batch));
                backlog.delivered();
            }
            dropped += backlog.dropped_lines + backlog.tally.dropped.get();
            prop_assert!(backlog.is_empty());
            prop_assert!(delivered.is_sorted_by(|one, next| one < next), "{:?}", delivered);
            prop_assert_eq!(delivered.len() as u64 + dropped, pushed);
            prop_assert!(when_full == WhenFull::DropOldest || dropped == 0);
        }
    }
}
