//! Housekeeping of the log: a thread that keeps a file ready for the next segment, and removes the oldest
//! segments.

use super::Shared;
use crate::engine::item::Place;
use crate::engine::record::{Moved, Pushed, Record};
use crate::log::disk::{DiskLog, Spare};
use crate::log::segment::{self, Header};
use crate::log::{LogError, frame, reading};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two attempts to make a file, and between two searches for removable segments while the log
/// changes.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Bytes that are rewritten under one hold of the lock: about a tenth of a millisecond.
const BYTES_AT_ONCE: usize = 64 << 10;
/// Keys that are rewritten under one hold of the lock: a few milliseconds.
const KEYS_AT_ONCE: usize = 4000;

#[derive(Debug)]
pub(super) struct Housekeeping {
    log: Arc<DiskLog>,
    /// The end of the log at the last look, in groups and bytes.
    looked_at: Option<(u64, u64)>,
}

enum Task {
    MakeSpare,
    Clean {
        segment: u32,
    },
    Rest,
    /// Waits until a backup is done.
    Wait,
}

impl Housekeeping {
    pub(super) fn new(log: Arc<DiskLog>) -> Housekeeping {
        Housekeeping { log, looked_at: None }
    }

    fn dir(&self) -> &Path {
        self.log.dir()
    }

    pub(super) fn run(mut self, shared: &Shared) {
        let mut bytes = Vec::new();
        while !shared.lock().closing {
            match self.next(shared) {
                Task::Rest => {}
                Task::Wait => drop(shared.housework_timeout(shared.lock(), RETRY_AFTER)),
                Task::MakeSpare => self.make_spare(shared),
                Task::Clean { segment } => {
                    if let Err(error) = self.clean(segment, &mut bytes, shared) {
                        tracing::error!(
                            event = "log_cleaning_failed",
                            %error,
                            "cannot free old segments; the log grows"
                        );
                        shared.metrics.clean_errors.inc();
                        drop(shared.housework_timeout(shared.lock(), RETRY_AFTER * 10));
                    }
                    bytes.clear();
                    bytes.shrink_to(1 << 20);
                }
            }
        }
    }

    /// Returns the next task. Without one, sleeps first until there may be one.
    fn next(&mut self, shared: &Shared) -> Task {
        let state = shared.lock();
        let Some(end) = state.tail.end() else { return Task::Rest };
        let (live, live_bytes) = (&state.core.usage.live, state.core.usage.live_bytes);
        let segments = self.log.segments();
        let oldest = segments.finished.first_key_value().map(|(number, _)| *number);
        let empty = oldest.filter(|number| !live.contains_key(number));
        let finished: u64 = segments.finished.values().sum();
        let over = finished > live_bytes.saturating_mul(2).saturating_add(end.segment_bytes);
        // On a full disk, rewritten items must fit into the present segment.
        let room = end.segment_bytes.saturating_sub(end.offset) / 2;
        let fits = oldest.is_some_and(|number| live.get(&number).is_none_or(|bytes| *bytes < room));
        let lacks_spare = segments.lacks_spare();
        let task = match (&segments.spare, empty, oldest.filter(|_| over)) {
            (Spare::Taken, ..) | (Spare::Ready, None, None) => Task::Rest,
            // A segment without live items is the best file to recycle.
            (_, Some(segment), _) | (Spare::Ready, None, Some(segment)) => Task::Clean { segment },
            (Spare::Failed(_), None, Some(segment)) if fits => Task::Clean { segment },
            (Spare::Missing | Spare::Failed(_), ..) => Task::MakeSpare,
        };
        let at = Some((end.next_group, end.offset));
        drop(segments);
        match task {
            Task::Clean { .. } => {
                // Unlocks the state: the head may be in the middle of a write to a slow disk.
                drop(state);
                match (self.log.keep_backups_out(), lacks_spare) {
                    (Some(_), _) => task,
                    (None, true) => Task::MakeSpare,
                    (None, false) => Task::Wait,
                }
            }
            Task::Rest if state.closing => task,
            Task::Rest => {
                if std::mem::replace(&mut self.looked_at, at) == at {
                    drop(shared.housework_rest(state));
                } else {
                    drop(shared.housework_timeout(state, RETRY_AFTER));
                }
                task
            }
            Task::MakeSpare | Task::Wait => task,
        }
    }

    fn make_spare(&self, shared: &Shared) {
        let made = self.log.make_spare();
        if let Err((error, true)) = &made {
            tracing::error!(
                event = "segment_allocation_failed",
                %error,
                dir = %self.dir().display(),
                "no room for another log segment; pushes are rejected when this one is full"
            );
        }
        shared.room.notify_waiters();
        if made.is_err() {
            drop(shared.housework_timeout(shared.lock(), RETRY_AFTER));
        }
    }

    /// Rewrites the live items of the oldest segment, then removes the segment.
    fn clean(&self, number: u32, bytes: &mut Vec<u8>, shared: &Shared) -> Result<(), LogError> {
        let path = segment::path(self.dir(), number);
        if shared.lock().core.usage.live.contains_key(&number) {
            reading::load(&path, bytes)?;
            let header = Header::decode(bytes, &path)?;
            let mut at = header.bytes();
            while let Some(frame) = frame::open(bytes, at, header.nonce) {
                self.rewrite(frame.records, number, at + frame::HEADER_BYTES, shared);
                at += frame.bytes();
            }
        }
        while shared.lock().turn(0, |core, turn| core.rewrite_keys(number, KEYS_AT_ONCE, turn)) {
            // Others get the lock in between.
            std::thread::yield_now();
        }
        let mut state = shared.lock();
        if state.core.usage.live.contains_key(&number) {
            let why = "items that it should hold were not found".to_owned();
            return Err(LogError::Damaged { path, offset: 0, why, dir: self.dir().to_owned() });
        }
        let ticket = state.tail.ticket();
        shared.commit_soon(&mut state);
        drop(state);
        let kept = ticket.is_none_or(|ticket| ticket.blocking_recv().is_ok());
        // This needs a sync, whatever the durability of answers: the old copies may have been on the disk for
        // a long time.
        let synced = shared.lock().tail.ask_sync();
        shared.commit.notify_one();
        if !kept || synced.blocking_recv().is_err() {
            return match shared.lock().closing {
                true => Ok(()),
                false => Err(LogError::io("sync", self.dir())(io::Error::other("the last attempt failed"))),
            };
        }
        if self.log.remove(number)? {
            shared.room.notify_waiters();
        }
        Ok(())
    }

    /// Rewrites one group's items, a few at a time so that other threads do not wait long for the lock.
    fn rewrite(&self, records: &[u8], segment: u32, base: usize, shared: &Shared) {
        let mut items =
            Record::decode_all(records).filter_map(Result::ok).filter_map(|(record, body)| match record {
                Record::Pushed(item) | Record::Moved(Moved { item, .. }) => Some((item, body)),
                _ => None,
            });
        let mut more = true;
        while more {
            let mut state = shared.lock();
            let mut written = 0;
            let moved = state.turn(BYTES_AT_ONCE as u64, |core, turn| {
                let mut moved = Vec::new();
                while written < BYTES_AT_ONCE {
                    let Some((Pushed { queue, number, body, .. }, at)) = items.next() else {
                        more = false;
                        break;
                    };
                    let place = Place { segment, offset: u32::try_from(base + at).unwrap_or(u32::MAX) };
                    // Looking up an item that is gone costs time, too.
                    written += 64;
                    if core.rewrite(queue, number, place, body, turn.journal) {
                        written += body.len();
                        moved.push((queue, number));
                    }
                }
                moved
            });
            shared.metrics.cleaned_items.inc_by(moved.len() as u64);
            shared.commit_soon(&mut state);
        }
    }
}
