//! The writer of the log: takes all pending groups, writes them, syncs once, and notifies all waiting
//! requests. It has a thread of its own, so that a slow disk delays only the requests that wait for it. While
//! the disk is quick, the event loop does the writing itself: passing a group to a thread and its answers
//! back takes longer than a quick disk.

use super::{Shared, State};
use crate::log::directory::{Directory, Inode};
use crate::log::front::{Chunk, Front, Spare};
use crate::log::head::HeadFile;
use crate::log::segment::{self, End, Header};
use crate::log::{Durability, LogError, frame};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Limit on the delay of a record that nobody waits for (a lease), in the hope of more records.
const LINGER: Duration = Duration::from_millis(10);
/// A disk is quick if the last group took no longer than this.
const QUICK: Duration = Duration::from_micros(500);
/// Waiting for more records may cost half of a sync that is not quick, and no more than this.
const PATIENCE_MAX: Duration = Duration::from_millis(10);
/// Interval between two checks that the directory is still there, while groups are written.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// Interval between two tries to write after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) directory: Arc<Directory>,
    pub(super) durability: Durability,
    pub(super) header: Header,
    pub(super) file: Arc<File>,
    /// The checksum of the last group in the segment; the next segment names the group that it continues.
    pub(super) last_checksum: u32,
    pub(super) head: Arc<Mutex<HeadFile>>,
    pub(super) last_synced_group: u64,
    /// Groups that are written and not yet synced: since when, and up to which group.
    pub(super) unsynced: Option<(Instant, u64)>,
    /// Clients that were just answered have until then to send their next request. Otherwise half of the
    /// clients would wait for the disk while it writes for the other half, and each sync would serve only
    /// half of them.
    pub(super) patient_until: Option<Instant>,
    /// The duration of the last write.
    pub(super) took: Duration,
    /// Groups that the event loop failed to write; the thread writes them first.
    pub(super) left: Option<Vec<Chunk>>,
    /// The last time at which the directory was confirmed to be the one that was opened.
    pub(super) looked: Option<Instant>,
}

/// The writer, shared by the thread and the event loop. A holder of its lock may lock the engine's state,
/// never the other way round.
pub(super) type Pen = Arc<Mutex<Writer>>;

pub(super) fn hold(pen: &Pen) -> MutexGuard<'_, Writer> {
    pen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the thread until the engine is closed and everything is written.
pub(super) fn run(pen: &Pen, shared: &Shared) {
    loop {
        let mut writer = hold(pen);
        let state = shared.lock();
        match writer.next(state, shared) {
            Next::Write(chunks) => {
                if !writer.write_at_last(chunks, shared) {
                    return shared.give_up();
                }
            }
            Next::Sync => writer.sync_now(shared),
            Next::Look => {
                if !writer.at_last(shared, |writer| writer.look(shared)) {
                    return shared.give_up();
                }
            }
            Next::Wait(state, left) => {
                drop(writer);
                match left {
                    Some(left) => drop(shared.wait_timeout(state, left)),
                    None => drop(shared.wait(state)),
                }
            }
            Next::End => return writer.sync_now(shared),
        }
    }
}

impl Shared {
    /// Tells everyone who waits for a write that none will come.
    fn give_up(&self) {
        self.lock().disk_mut(|front| {
            front.pending.clear();
            front.in_flight_waiters.clear();
        });
    }
}

/// The thread's next step.
enum Next<'a> {
    Write(Vec<Chunk>),
    Sync,
    Look,
    Wait(MutexGuard<'a, State>, Option<Duration>),
    End,
}

impl Writer {
    /// Writes pending groups on the event loop, if that will not delay it. False if the thread must be woken.
    pub(super) fn write_here(&mut self, shared: &Shared) -> bool {
        if self.took > QUICK || self.left.is_some() {
            return false;
        }
        let pending =
            shared.lock().disk_mut(|front| match front.pending.iter().any(|chunk| chunk.begins_segment) {
                true => None,
                false => Some(front.take_pending()),
            });
        let Some(Some(mut chunks)) = pending else { return false };
        let synced_before = self.unsynced.is_none();
        match self.write(&mut chunks, shared) {
            Ok(()) => {
                self.finish(chunks, shared);
                // The thread must sync them later, and end the wait for more requests.
                self.patient_until.is_none() && !(synced_before && self.unsynced.is_some())
            }
            Err(_) => {
                self.left = Some(chunks);
                false
            }
        }
    }

    /// Writes, retrying until it succeeds; false when the engine is given up.
    fn write_at_last(&mut self, mut chunks: Vec<Chunk>, shared: &Shared) -> bool {
        let written = self.at_last(shared, |writer| writer.write(&mut chunks, shared));
        if written {
            self.finish(chunks, shared);
        }
        written
    }

    /// Retries until `act` succeeds; false when the engine is given up.
    fn at_last(&mut self, shared: &Shared, mut act: impl FnMut(&mut Writer) -> Result<(), LogError>) -> bool {
        let mut failed = false;
        while let Err(error) = act(self) {
            failed = true;
            if !self.say_and_wait(&error, shared) {
                return false;
            }
        }
        if failed {
            tracing::info!(event = "log_writes_resumed", "the log can be written again");
            shared.lock().disk_mut(|front| front.failing = None);
            shared.readiness.clear("log");
        }
        true
    }

    /// Returns the time left to wait for more requests, if waiting is useful.
    fn patience_left(&mut self, front: &mut Front, closing: bool) -> Option<Duration> {
        let left = self.patient_until?.saturating_duration_since(Instant::now());
        if left.is_zero() || closing || front.waiting() >= front.enough {
            (self.patient_until, front.enough) = (None, 0);
            return None;
        }
        Some(left)
    }

    fn next<'a>(&mut self, mut state: MutexGuard<'a, State>, shared: &Shared) -> Next<'a> {
        if let Some(chunks) = self.left.take() {
            return Next::Write(chunks);
        }
        let closing = shared.closing.load(Ordering::Relaxed);
        if shared.suspect.load(Ordering::Relaxed) {
            return Next::Look;
        }
        if let Some(left) = state.disk_mut(|front| self.patience_left(front, closing)).flatten() {
            return Next::Wait(state, Some(left));
        }
        let seen = state.disk_mut(|front| {
            (!front.pending.is_empty(), front.urgent, front.pending.first().map(|chunk| chunk.opened))
        });
        let Some((pending, urgent, opened)) = seen else { return Next::End };
        let linger_left = opened.map_or(LINGER, |opened| LINGER.saturating_sub(opened.elapsed()));
        if pending && (urgent || closing || linger_left.is_zero()) {
            return state.disk_mut(Front::take_pending).map_or(Next::End, Next::Write);
        }
        if closing {
            return Next::End;
        }
        let sync_left = self.sync_left();
        if sync_left.is_some_and(|left| left.is_zero()) {
            return Next::Sync;
        }
        let linger_left = pending.then_some(linger_left);
        Next::Wait(state, linger_left.into_iter().chain(sync_left).min())
    }

    fn sync_left(&self) -> Option<Duration> {
        match (self.durability, self.unsynced) {
            (Durability::Interval(within), Some((since, _))) => Some(within.saturating_sub(since.elapsed())),
            _ => None,
        }
    }

    fn write(&mut self, chunks: &mut [Chunk], shared: &Shared) -> Result<(), LogError> {
        let began = Instant::now();
        let looked = self.looked.is_some_and(|looked| began.duration_since(looked) <= LOOK_AFTER);
        if !looked || shared.suspect.load(Ordering::Relaxed) {
            self.look(shared)?;
        }
        for chunk in &mut *chunks {
            if chunk.begins_segment && chunk.segment != self.header.number {
                self.begin_segment(chunk, shared)?;
            }
            if chunk.group <= self.last_synced_group {
                // An earlier try wrote it, and synced it before moving to the next segment.
                continue;
            }
            let unsynced = chunk.group.saturating_sub(self.last_synced_group);
            let unsynced = u32::try_from(unsynced).unwrap_or(u32::MAX);
            let checksum = frame::seal(&mut chunk.bytes, self.header.nonce, chunk.group, unsynced);
            self.file.write_all_at(&chunk.bytes, chunk.offset).map_err(|e| self.failed("write to")(e))?;
            self.last_checksum = checksum;
            shared.metrics.written_bytes.inc_by(chunk.bytes.len() as u64);
            self.unsynced = Some((self.unsynced.map_or(began, |(since, _)| since), chunk.group));
        }
        if self.durability == Durability::Always {
            self.sync(shared)?;
        }
        self.took = began.elapsed();
        shared.metrics.commits.inc();
        shared.metrics.commit_seconds.observe(self.took.as_secs_f64());
        let patient = self.durability == Durability::Always && self.took > QUICK;
        self.patient_until = patient.then(|| Instant::now() + (self.took / 2).min(PATIENCE_MAX));
        Ok(())
    }

    /// Fails while the directory's path leads elsewhere: nothing may be promised then.
    fn look(&mut self, shared: &Shared) -> Result<(), LogError> {
        // Must come before the check: an event during it requires another one.
        shared.suspect.store(false, Ordering::Relaxed);
        self.looked = None;
        self.directory.check()?;
        let path = segment::path(self.directory.path(), self.header.number);
        let ours = Inode::of(&self.file).map_err(|e| self.failed("look at")(e))?;
        if Inode::at(&path).ok() != Some(ours) {
            return Err(LogError::Removed(path));
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(std::io::Error) -> LogError + use<> {
        LogError::io(what, &segment::path(self.directory.path(), self.header.number))
    }

    fn sync(&mut self, shared: &Shared) -> Result<(), LogError> {
        self.file.sync_data().map_err(|e| self.failed("sync")(e))?;
        shared.metrics.syncs.inc();
        if let Some((_, group)) = self.unsynced.take() {
            self.last_synced_group = group;
        }
        Ok(())
    }

    /// Syncs everything that was written until now.
    pub(super) fn sync_written(&mut self, shared: &Shared) -> Result<(), LogError> {
        // The kernel reports a failed sync once. What it failed for must be written again first.
        if self.left.is_some() {
            return Err(self.failed("sync")(std::io::Error::other("an earlier write failed")));
        }
        if self.unsynced.is_some() { self.sync(shared) } else { Ok(()) }
    }

    /// Syncs for `--durability interval`, and at the end.
    fn sync_now(&mut self, shared: &Shared) {
        if let Err(error) = self.sync_written(shared) {
            tracing::error!(
                event = "log_sync_failed",
                %error,
                "answers already given may not survive a power loss"
            );
            self.unsynced = None;
        }
    }

    /// Begins the chunk's segment. The old one must be on the disk as a whole before the next one exists.
    fn begin_segment(&mut self, chunk: &Chunk, shared: &Shared) -> Result<(), LogError> {
        self.sync(shared)?;
        self.look(shared)?;
        let end = End { nonce: self.header.nonce, checksum: self.last_checksum };
        let header = Header::new(chunk.segment, self.header.epoch, chunk.group, Some(end));
        let dir = self.directory.path();
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        head.ensure()?;
        let file = segment::begin(dir, &header)
            .map_err(LogError::io("begin", &segment::path(dir, chunk.segment)))?;
        head.begin(header.number, self.last_synced_group)?;
        drop(head);
        (self.file, self.header, self.last_checksum) = (Arc::new(file), header, 0);
        let file = self.file.clone();
        let mut state = shared.lock();
        state.disk_mut(|front| {
            front.files.insert(header.number, file);
            front.spare = Spare::Wanted;
        });
        shared.housework.notify_all();
        Ok(())
    }

    fn finish(&mut self, chunks: Vec<Chunk>, shared: &Shared) {
        let mut state = shared.lock();
        let late = state.disk_mut(|front| {
            front.in_flight = false;
            std::mem::take(&mut front.in_flight_waiters)
        });
        let mut waiters = late.unwrap_or_default();
        for chunk in chunks {
            for (queue, number, place) in chunk.evict {
                state.core.evict(queue, number, place);
            }
            waiters.extend(chunk.waiters);
            state.disk_mut(|front| front.reuse(chunk.bytes));
        }
        state.disk_mut(|front| {
            front.expected = front.waiting() + waiters.len();
            front.enough = if self.patient_until.is_some() { front.expected } else { 0 };
        });
        shared.answer(state, waiters);
    }

    /// Reports the error once, and waits before the next try; false when the engine is given up meanwhile.
    fn say_and_wait(&self, error: &LogError, shared: &Shared) -> bool {
        let why =
            std::error::Error::source(error).map_or_else(|| error.to_string(), |e| format!("{error}: {e}"));
        let mut state = shared.lock();
        let first = state.disk_mut(|front| front.failing.replace(why.clone()).is_none());
        if first == Some(true) {
            tracing::error!(
                event = "log_write_failed",
                error = why,
                "the log cannot be written; answers wait until it can"
            );
        }
        shared.readiness.block("log", why);
        shared.metrics.write_errors.inc();
        drop(shared.wait_timeout(state, RETRY_AFTER));
        !shared.closing.load(Ordering::Relaxed)
    }
}
