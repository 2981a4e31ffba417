//! The one thread that writes: it takes all that is pending, writes it, syncs once, and tells all who wait.

use super::front::{Chunk, Front, Spare};
use super::segment::{self, Header};
use super::{LogError, frame};
use crate::local::Shared;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a record that nobody waits for (a lease) may wait for company.
const LINGER: Duration = Duration::from_millis(10);
/// Half of a sync is what waiting for company may cost, and no more than this. A shorter wait than the least is none: the
/// kernel would make it as long.
const PATIENCE: RangeInclusive<Duration> = Duration::from_micros(50)..=Duration::from_millis(10);
/// Between two tries to write what could not be written.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// When an answer may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the records are on the disk.
    Always,
    /// When they are written; they are on the disk within this time.
    Interval(Duration),
    /// When they are written.
    None,
}

#[derive(Debug)]
pub struct Writer {
    pub dir: PathBuf,
    pub durability: Durability,
    pub header: Header,
    pub file: Arc<File>,
    pub last_synced_group: u64,
    /// Written, not yet synced; since when, and up to which group.
    pub unsynced: Option<(Instant, u64)>,
    /// Those who were just answered are given until then to come back: else one half of the clients would wait for the
    /// disk while it writes for the other half, and each sync serve only half of them.
    pub patient_until: Option<Instant>,
}

impl Writer {
    /// Runs until the engine is closed and everything is written.
    pub fn run(mut self, shared: &Shared) {
        while let Some(mut chunks) = self.take(shared) {
            let mut failed = false;
            while let Err(error) = self.write(&mut chunks, shared) {
                failed = true;
                if !self.say_and_wait(&error, shared) {
                    return;
                }
            }
            if failed {
                tracing::info!("the log can be written again");
                shared.lock().disk_mut(|front| front.failing = None);
                shared.readiness.clear("log");
            }
            self.finish(chunks, shared);
        }
    }

    /// How long to wait for company, if that is of any use.
    fn patience_left(&mut self, front: &mut Front, closing: bool) -> Option<Duration> {
        let left = self.patient_until?.saturating_duration_since(Instant::now());
        if left.is_zero() || closing || front.waiting() >= front.enough {
            (self.patient_until, front.enough) = (None, 0);
            return None;
        }
        Some(left)
    }

    /// Waits for something to write; `None` at the end. In between it syncs what an interval asks for.
    fn take(&mut self, shared: &Shared) -> Option<Vec<Chunk>> {
        let mut state = shared.lock();
        loop {
            let closing = shared.closing.load(Ordering::Relaxed);
            if let Some(left) = state.disk_mut(|front| self.patience_left(front, closing)).flatten() {
                state = shared.wait_timeout(state, left);
                continue;
            }
            let (pending, urgent, opened) = state.disk_mut(|front| {
                (!front.pending.is_empty(), front.urgent, front.pending.first().map(|chunk| chunk.opened))
            })?;
            let linger_left = opened.map_or(LINGER, |opened| LINGER.saturating_sub(opened.elapsed()));
            if pending && (urgent || closing || linger_left.is_zero()) {
                return state.disk_mut(|front| {
                    front.urgent = false;
                    front.in_flight = true;
                    std::mem::take(&mut front.pending)
                });
            }
            let sync_left = self.sync_left();
            if closing || sync_left.is_some_and(|left| left.is_zero()) {
                drop(state);
                self.sync_now(shared);
                if closing {
                    return None;
                }
                state = shared.lock();
                continue;
            }
            let linger_left = pending.then_some(linger_left);
            state = match linger_left.into_iter().chain(sync_left).min() {
                Some(left) => shared.wait_timeout(state, left),
                None => shared.wait(state),
            };
        }
    }

    fn sync_left(&self) -> Option<Duration> {
        match (self.durability, self.unsynced) {
            (Durability::Interval(within), Some((since, _))) => Some(within.saturating_sub(since.elapsed())),
            _ => None,
        }
    }

    fn write(&mut self, chunks: &mut [Chunk], shared: &Shared) -> Result<(), LogError> {
        let began = Instant::now();
        for chunk in &mut *chunks {
            if chunk.begins_segment && chunk.segment != self.header.number {
                self.begin_segment(chunk, shared)?;
            }
            let unsynced = chunk.group.saturating_sub(self.last_synced_group);
            let unsynced = u32::try_from(unsynced).unwrap_or(u32::MAX);
            frame::seal(&mut chunk.bytes, self.header.nonce, chunk.group, unsynced);
            let path = segment::path(&self.dir, chunk.segment);
            self.file.write_all_at(&chunk.bytes, chunk.offset).map_err(LogError::io("write to", &path))?;
            shared.metrics.written_bytes.inc_by(chunk.bytes.len() as u64);
            self.unsynced = Some((self.unsynced.map_or(began, |(since, _)| since), chunk.group));
        }
        if self.durability == Durability::Always {
            self.sync(shared)?;
        }
        let took = began.elapsed();
        shared.metrics.commits.inc();
        shared.metrics.commit_seconds.observe(took.as_secs_f64());
        let patience = (took / 2).min(*PATIENCE.end());
        let patient = self.durability == Durability::Always && PATIENCE.contains(&patience);
        self.patient_until = patient.then(|| Instant::now() + patience);
        Ok(())
    }

    fn sync(&mut self, shared: &Shared) -> Result<(), LogError> {
        let path = segment::path(&self.dir, self.header.number);
        self.file.sync_data().map_err(LogError::io("sync", &path))?;
        shared.metrics.syncs.inc();
        if let Some((_, group)) = self.unsynced.take() {
            self.last_synced_group = group;
        }
        Ok(())
    }

    /// For `interval` and at the end.
    fn sync_now(&mut self, shared: &Shared) {
        if self.unsynced.is_some()
            && let Err(error) = self.sync(shared)
        {
            tracing::error!(%error, "what was answered may not survive a power loss");
            self.unsynced = None;
        }
    }

    /// The old segment is on the disk as a whole before the next one exists.
    fn begin_segment(&mut self, chunk: &Chunk, shared: &Shared) -> Result<(), LogError> {
        self.sync(shared)?;
        let header = Header {
            nonce: fastrand::u32(1..),
            number: chunk.segment,
            epoch: self.header.epoch,
            first_group: chunk.group,
        };
        let file = segment::begin(&self.dir, &header)
            .map_err(LogError::io("begin", &segment::path(&self.dir, chunk.segment)))?;
        (self.file, self.header) = (Arc::new(file), header);
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
        }
        if self.patient_until.is_some() {
            state.disk_mut(|front| front.enough = front.waiting() + waiters.len());
        }
        shared.answer(state, waiters);
    }

    /// Says it once, and waits before the next try; false when the engine is given up meanwhile.
    fn say_and_wait(&self, error: &LogError, shared: &Shared) -> bool {
        let why =
            std::error::Error::source(error).map_or_else(|| error.to_string(), |e| format!("{error}: {e}"));
        let mut state = shared.lock();
        let first = state.disk_mut(|front| front.failing.replace(why.clone()).is_none());
        if first == Some(true) {
            tracing::error!(error = why, "the log cannot be written; answers wait until it can");
        }
        shared.readiness.block("log", why);
        shared.metrics.write_errors.inc();
        drop(shared.wait_timeout(state, RETRY_AFTER));
        !shared.closing.load(Ordering::Relaxed)
    }
}
