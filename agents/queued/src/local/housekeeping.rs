//! The thread that keeps a file ready for the next segment and removes the oldest segments.

use super::{Shared, writer};
use crate::engine::item::Place;
use crate::engine::record::{Moved, Pushed, Record};
use crate::log::directory::Directory;
use crate::log::front::{Front, Spare};
use crate::log::head::HeadFile;
use crate::log::segment::{self, Header};
use crate::log::{LogError, frame, reading};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pause between two tries to make a file, and between two searches for removable segments while the log
/// changes.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Bytes that are rewritten under one hold of the lock: about a tenth of a millisecond.
const BYTES_AT_ONCE: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Housekeeping {
    directory: Arc<Directory>,
    head: Arc<Mutex<HeadFile>>,
    /// The end of the log at the last look, in groups and bytes.
    looked_at: Option<(u64, u64)>,
}

enum Task {
    MakeSpare {
        bytes: u64,
    },
    Clean {
        segment: u32,
    },
    Rest,
    /// Waits until a backup is done.
    Wait,
}

impl Housekeeping {
    pub(super) fn new(directory: Arc<Directory>, head: Arc<Mutex<HeadFile>>) -> Housekeeping {
        Housekeeping { directory, head, looked_at: None }
    }

    fn dir(&self) -> &Path {
        self.directory.path()
    }

    fn head(&self) -> MutexGuard<'_, HeadFile> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn run(mut self, shared: &Shared) {
        let mut bytes = Vec::new();
        while !shared.closing.load(Ordering::Relaxed) {
            match self.next(shared) {
                Task::Rest => {}
                Task::Wait => drop(shared.housework_timeout(shared.lock(), RETRY_AFTER)),
                Task::MakeSpare { bytes } => self.make_spare(bytes, shared),
                Task::Clean { segment } => {
                    if let Err(error) = self.clean(segment, &mut bytes, shared) {
                        tracing::error!(
                            event = "log_cleaning_failed",
                            %error,
                            "cannot clean the log; it grows"
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

    /// Returns the next task; waits until there may be one.
    fn next(&mut self, shared: &Shared) -> Task {
        let mut state = shared.lock();
        let live_bytes = state.core.usage.live_bytes;
        let live = state.core.usage.live.clone();
        let task = state.disk_mut(|front| {
            let oldest = front.finished.first_key_value().map(|(number, _)| *number);
            let empty = oldest.filter(|number| !live.contains_key(number));
            let finished: u64 = front.finished.values().sum();
            let over = finished > live_bytes.saturating_mul(2).saturating_add(front.segment_bytes);
            // On a full disk, rewritten items must fit into the present segment.
            let room = front.segment_bytes.saturating_sub(front.offset) / 2;
            let fits = oldest.is_some_and(|number| live.get(&number).is_none_or(|bytes| *bytes < room));
            match (&front.spare, empty.or(oldest.filter(|_| over))) {
                // A segment without live items is the best file to recycle.
                (Spare::Wanted | Spare::Failed(_), _) if empty.is_some() => {
                    Task::Clean { segment: empty.unwrap_or_default() }
                }
                (Spare::Failed(_), Some(segment)) if fits => Task::Clean { segment },
                (Spare::Taken, _) => Task::Rest,
                (Spare::Wanted | Spare::Failed(_), _) => Task::MakeSpare { bytes: front.segment_bytes },
                (Spare::Ready, Some(segment)) => Task::Clean { segment },
                (Spare::Ready, None) => Task::Rest,
            }
        });
        let task = task.unwrap_or(Task::Rest);
        if let Task::Clean { .. } = task {
            let wanted = state.disk_mut(|front| front.wants_spare().then_some(front.segment_bytes)).flatten();
            // The head may be in the middle of a write to a slow disk.
            drop(state);
            return match (self.head().keep_backups_out(), wanted) {
                (Some(_), _) => task,
                (None, Some(bytes)) => Task::MakeSpare { bytes },
                (None, None) => Task::Wait,
            };
        }
        if let Task::Rest = task {
            let end = state.disk_mut(|front| (front.next_group, front.offset));
            if std::mem::replace(&mut self.looked_at, end) == end {
                drop(shared.housework_rest(state));
            } else {
                drop(shared.housework_timeout(state, RETRY_AFTER));
            }
        }
        task
    }

    fn make_spare(&self, bytes: u64, shared: &Shared) {
        let there = self.directory.check().map_err(|gone| io::Error::other(gone.to_string()));
        let made = there.and_then(|()| segment::make_spare(self.dir(), bytes));
        let mut state = shared.lock();
        let failed = state.disk_mut(|front| match &made {
            Ok(()) => {
                front.spare_is_ready();
                false
            }
            Err(error) => !matches!(
                std::mem::replace(&mut front.spare, Spare::Failed(error.to_string())),
                Spare::Failed(_)
            ),
        });
        if failed == Some(true)
            && let Err(error) = &made
        {
            tracing::error!(
                event = "segment_allocation_failed",
                %error,
                dir = %self.dir().display(),
                "no room for another log segment; pushes are rejected when this one is full"
            );
        }
        shared.metrics.no_space.set(i64::from(made.is_err()));
        shared.room.notify_waiters();
        shared.work.notify_all();
        if made.is_err() {
            drop(shared.housework_timeout(state, RETRY_AFTER));
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
        let mut state = shared.lock();
        state.turn(0, |core, turn| core.rewrite_keys(number, turn));
        if state.core.usage.live.contains_key(&number) {
            let why = "items that live in it were not found".to_owned();
            return Err(LogError::Damaged { path, offset: 0, why, dir: self.dir().to_owned() });
        }
        let ticket = state.disk_mut(Front::ticket).flatten();
        shared.work.notify_all();
        drop(state);
        if let Some(ticket) = ticket
            && ticket.blocking_recv().is_err()
        {
            return Ok(());
        }
        // Syncs whatever the durability of answers: the old copies may have been on the disk for a long time.
        if let Some(pen) = shared.pen.get() {
            writer::hold(pen).sync_written(shared)?;
        }
        self.let_go(number, shared)
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
            drop(state);
            shared.work.notify_all();
        }
    }

    fn let_go(&self, number: u32, shared: &Shared) -> Result<(), LogError> {
        let path = segment::path(self.dir(), number);
        // A directory that has replaced ours may have a file of this name.
        self.directory.check()?;
        let group = shared.pen.get().map_or(0, |pen| writer::hold(pen).last_synced_group);
        let mut head = self.head();
        let Some(_no_backup) = head.keep_backups_out() else { return Ok(()) };
        head.let_go_before(number.saturating_add(1), group)?;
        drop(head);
        let (recycle, bytes) =
            shared.lock().disk_mut(|front| (front.wants_spare(), front.segment_bytes)).unwrap_or((false, 0));
        let right_size = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes);
        let recycled = recycle && right_size;
        if recycled {
            std::fs::rename(&path, segment::spare_path(self.dir()))
                .map_err(LogError::io("recycle", &path))?;
        } else {
            match std::fs::remove_file(&path) {
                // An earlier try has already removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(LogError::io("remove", &path))?,
            }
        }
        segment::sync_dir(self.dir()).map_err(LogError::io("sync", self.dir()))?;
        // Must come after the sync: if this segment survived a power loss while later ones were removed, the
        // next start would report damage.
        shared.lock().disk_mut(|front| {
            front.files.remove(&number);
            front.finished.remove(&number);
            if recycled {
                front.spare_is_ready();
            }
        });
        if recycled {
            shared.metrics.no_space.set(0);
            shared.room.notify_waiters();
            shared.work.notify_all();
        }
        shared.metrics.segments_freed.inc();
        Ok(())
    }
}
