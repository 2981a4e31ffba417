//! Housekeeping of the log: a thread that keeps a file ready for the next segment, and removes the oldest
//! segments.

use super::{EngineState, Shared};
use crate::engine::item::BodyPlace;
use crate::engine::record::{Moved, Pushed, Record};
use crate::log::disk::{DiskLog, Spare};
use crate::log::segment::{self, Header};
use crate::log::{LogError, frame, reading};
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Pause between two attempts to make a file, and between two searches for removable segments while the log
/// changes.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Bytes that are rewritten under one hold of the lock: about a tenth of a millisecond.
const BYTES_AT_ONCE: usize = 64 << 10;
/// Keys that are rewritten under one hold of the lock: a few milliseconds.
const KEYS_AT_ONCE: usize = 4000;

#[derive(Debug)]
pub(super) struct Housekeeping(pub(super) Arc<DiskLog>);

enum Task {
    MakeSpare,
    Clean { segment: u32 },
}

impl Housekeeping {
    pub(super) fn run(&self, shared: &Shared) {
        let (mut bytes, mut changes) = (Vec::new(), false);
        loop {
            let mut state = shared.lock();
            if state.closing {
                return;
            }
            let Some(task) = self.next(&state) else {
                // A command ends a rest. Then more commands follow, and not each of them is a reason to look.
                state.housework_rests = !changes;
                let most = if changes { RETRY_AFTER } else { Duration::MAX };
                let woken = shared.housework.wait_timeout(state, most);
                let (mut state, _) = woken.unwrap_or_else(PoisonError::into_inner);
                changes = !changes && !std::mem::take(&mut state.housework_rests);
                continue;
            };
            // Unlocks the state: the head may be in the middle of a write to a slow disk.
            drop(state);
            match task {
                Task::Clean { segment } if self.0.keep_backups_out().is_some() => {
                    if let Err(error) = self.clean(segment, &mut bytes, shared) {
                        tracing::error!(
                            event = "log_cleaning_failed",
                            %error,
                            "cannot free old segments; the log grows"
                        );
                        shared.metrics.clean_errors.inc();
                        shared.pause_housework(RETRY_AFTER * 10);
                    }
                    bytes.clear();
                    bytes.shrink_to(1 << 20);
                }
                // A backup needs every segment.
                Task::Clean { .. } if !self.0.segments().lacks_spare() => shared.pause_housework(RETRY_AFTER),
                Task::Clean { .. } | Task::MakeSpare => {
                    let made = self.0.make_spare();
                    shared.room.notify_waiters();
                    if !made {
                        shared.pause_housework(RETRY_AFTER);
                    }
                }
            }
        }
    }

    /// Returns the next task, if there is one.
    fn next(&self, state: &EngineState) -> Option<Task> {
        let end = state.tail.end()?;
        let (live, live_bytes) = (&state.core.usage.live, state.core.usage.live_bytes);
        let segments = self.0.segments();
        let oldest = segments.finished.first_key_value().map(|(number, _)| *number);
        let empty = oldest.filter(|number| !live.contains_key(number));
        let finished: u64 = segments.finished.values().sum();
        let over = finished > live_bytes.saturating_mul(2).saturating_add(end.segment_bytes);
        // On a full disk, rewritten items must fit into the present segment.
        let room = end.segment_bytes.saturating_sub(end.offset) / 2;
        let fits = oldest.is_some_and(|number| live.get(&number).is_none_or(|bytes| *bytes < room));
        match (&segments.spare, empty, oldest.filter(|_| over)) {
            (Spare::Taken, ..) | (Spare::Ready, None, None) => None,
            // A segment without live items is the best file to recycle.
            (_, Some(segment), _) | (Spare::Ready, None, Some(segment)) => Some(Task::Clean { segment }),
            (Spare::Failed(_), None, Some(segment)) if fits => Some(Task::Clean { segment }),
            (Spare::Missing | Spare::Failed(_), ..) => Some(Task::MakeSpare),
        }
    }

    /// Rewrites the live items of the oldest segment, then removes the segment.
    fn clean(&self, number: u32, bytes: &mut Vec<u8>, shared: &Shared) -> Result<(), LogError> {
        let path = segment::path(self.0.dir(), number);
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
            return Err(LogError::damaged(&path, 0, "items that it should hold were not found"));
        }
        // This needs a sync, whatever the durability of answers: the old copies may have been on the disk for
        // a long time.
        let synced = state.tail.ask_sync();
        drop(state);
        shared.commit.notify_one();
        if synced.blocking_recv().is_err() {
            return match shared.lock().closing {
                true => Ok(()),
                false => Err(LogError::io("sync", self.0.dir())(io::Error::other("the last attempt failed"))),
            };
        }
        if self.0.remove(number)? {
            shared.room.notify_waiters();
        }
        Ok(())
    }

    /// Rewrites one group's items, a few at a time so that other threads do not wait long for the lock.
    fn rewrite(&self, records: &[u8], segment: u32, base: usize, shared: &Shared) {
        let items = Record::decode_all(records).filter_map(Result::ok);
        let mut items = items
            .filter_map(|(record, body)| match record {
                Record::Pushed(item) | Record::Moved(Moved { item, .. }) => Some((item, body)),
                _ => None,
            })
            .peekable();
        while items.peek().is_some() {
            let mut state = shared.lock();
            let (mut written, mut moved) = (0, 0);
            state.turn(BYTES_AT_ONCE as u64, |core, turn| {
                while written < BYTES_AT_ONCE
                    && let Some((Pushed { queue, number, body, .. }, at)) = items.next()
                {
                    let place = BodyPlace { segment, offset: u32::try_from(base + at).unwrap_or(u32::MAX) };
                    // Looking up an item that is gone costs time, too.
                    written += 64;
                    if core.rewrite(queue, number, place, body, turn.journal) {
                        written += body.len();
                        moved += 1;
                    }
                }
            });
            shared.metrics.cleaned_items.inc_by(moved);
            shared.commit_soon(&mut state);
        }
    }
}

impl Shared {
    /// Stops the housekeeping for this time, or until the log's files change.
    fn pause_housework(&self, most: Duration) {
        let state = self.lock();
        if !state.closing {
            drop(self.housework.wait_timeout(state, most));
        }
    }
}
