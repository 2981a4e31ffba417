//! Schedules the syncs of the file, and lets receipts wait for them.
//!
//! A sync is a group commit: it serves all receipts that wait, and the next ones gather while it runs.

use crate::file::unsynced::FileSync;
use crate::metrics::LogdMetrics;
use kit::lifecycle::readiness::Readiness;
use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The state of the syncs. Positions count the bytes of all batches since the start, as in the intake.
#[derive(Debug)]
pub struct Syncer {
    state: Cell<SyncState>,
    synced: watch::Sender<Synced>,
    /// Notified when a receipt waits for a sync.
    wanted: Notify,
    /// Notified when lines were written that a sync should cover soon.
    dirtied: Notify,
    readiness: Readiness,
    metrics: LogdMetrics,
}

#[derive(Clone, Copy, Debug)]
enum SyncState {
    /// No sync runs.
    Idle,
    /// A sync runs that covers the lines up to this position.
    Running { position: u64 },
    /// The running sync is void, because its file is gone: the lines are in another file, which needs a sync.
    Outdated,
}

/// The lines that are on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Synced {
    pub position: u64,
    /// The number of failed syncs. A failed sync may lose the lines of any connection, and no later sync
    /// brings them back. So a connection compares this number at its beginning and at its end.
    pub failures: u64,
}

impl Syncer {
    /// Starts with a sync due, since the last run may have left lines without one.
    pub fn new(readiness: Readiness, metrics: LogdMetrics) -> Syncer {
        let dirtied = Notify::new();
        dirtied.notify_one();
        Syncer {
            state: Cell::new(SyncState::Idle),
            synced: watch::Sender::default(),
            wanted: Notify::new(),
            dirtied,
            readiness,
            metrics,
        }
    }

    /// Records that lines were written, which a sync should cover soon.
    pub fn dirty(&self) {
        self.dirtied.notify_one();
    }

    /// Requests a sync now.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    pub fn synced(&self) -> Synced {
        *self.synced.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<Synced> {
        self.synced.subscribe()
    }

    /// Resolves when a sync is due: at once when a receipt waits for it, otherwise `within` after a write.
    pub async fn due(&self, within: Duration) {
        tokio::select! {
            () = self.wanted.notified() => {}
            () = async { self.dirtied.notified().await; tokio::time::sleep(within).await } => {}
        }
    }

    /// Declares all syncs so far void, including a running one, because their file is gone.
    pub fn invalidate(&self) {
        if let SyncState::Running { .. } = self.state.get() {
            self.state.set(SyncState::Outdated);
        }
        self.synced.send_modify(|synced| synced.position = 0);
        self.dirty();
    }

    /// Runs a sync of everything up to `position` on another thread.
    pub async fn run(&self, position: u64, sync: FileSync) -> io::Result<()> {
        self.begin(position);
        let began = Instant::now();
        let result = tokio::task::spawn_blocking(move || sync.run()).await;
        self.metrics.sync_seconds.observe(began.elapsed().as_secs_f64());
        let result = result.unwrap_or_else(|e| Err(io::Error::other(e)));
        self.end(&result);
        result
    }

    /// Runs the last sync before the process ends.
    pub fn run_here(&self, position: u64, sync: &FileSync) -> io::Result<()> {
        self.begin(position);
        let result = sync.run();
        self.end(&result);
        result
    }

    fn begin(&self, position: u64) {
        self.state.set(SyncState::Running { position });
    }

    fn end(&self, result: &io::Result<()>) {
        self.metrics.syncs.inc();
        let ended = self.state.replace(SyncState::Idle);
        match result {
            Ok(()) => self.readiness.clear("disk"),
            Err(error) => {
                self.metrics.sync_errors.inc();
                self.readiness.block("disk", format!("cannot sync the file to the disk: {error}"));
                self.dirty(); // retried without waiting for the next line
            }
        }
        self.synced.send_modify(|synced| match (result, ended) {
            (Ok(()), SyncState::Running { position }) => synced.position = position,
            (Ok(()), SyncState::Outdated | SyncState::Idle) => {}
            (Err(_), _) => synced.failures += 1,
        });
    }
}
