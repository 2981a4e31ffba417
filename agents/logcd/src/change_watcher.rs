//! Notifications of the kernel about changes in the log directories, so that quiet ones are not polled.

use crate::logs::scan::is_ours;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Rings once, and then not again until it is armed: a busy directory must not cause a wake-up for each line.
pub struct ChangeWatcher {
    dirs: Vec<PathBuf>,
    mode: RecursiveMode,
    rang: Rang,
    ring: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    armed: bool,
}

/// The time of the first change since the alarm was armed.
#[derive(Clone, Debug, Default)]
struct Rang(Arc<Mutex<Option<Instant>>>);

impl Rang {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True for the first change only.
    fn is_first(&self) -> bool {
        let mut at = self.lock();
        at.is_none() && at.replace(Instant::now()).is_none()
    }
}

impl ChangeWatcher {
    pub fn new(dirs: Vec<PathBuf>, recursive: bool) -> ChangeWatcher {
        let (rang, ring) = (Rang::default(), Arc::new(Notify::new()));
        let (first, bell) = (rang.clone(), ring.clone());
        let handler = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(&event)) && first.is_first() {
                bell.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(
                |e| tracing::warn!(error = %e, "the kernel cannot report changes: looking at every interval"),
            )
            .ok();
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        ChangeWatcher { dirs, mode, rang, ring, watcher, armed: false }
    }

    /// Starts to listen. Call this before a look, so that changes during the look ring for the next one.
    pub fn arm(&mut self) {
        *self.rang.lock() = None;
        if let (Some(watcher), false) = (&mut self.watcher, self.armed) {
            let watched = self.dirs.iter().try_for_each(|dir| match watcher.watch(dir, self.mode) {
                // A missing directory has no changes; the check of its place notices when it appears.
                Err(error) if is_missing(&error) => Ok(()),
                watched => watched,
            });
            match watched {
                Ok(()) => self.armed = true,
                Err(error) => tracing::debug!(%error, "the kernel cannot report changes"),
            }
        }
    }

    /// True if something may have changed since the alarm was armed.
    pub fn has_rung(&self) -> bool {
        !self.armed || self.rang_at().is_some()
    }

    /// The time of the first change since the alarm was armed, where the kernel reported one.
    pub fn rang_at(&self) -> Option<Instant> {
        *self.rang.lock()
    }

    /// Waits for the first ring and stops listening. Cancel-safe.
    pub async fn hush(&mut self) {
        self.ring.notified().await;
        self.disarm();
    }

    /// Stops listening, because a directory has been moved or replaced.
    pub fn disarm(&mut self) {
        if let (Some(watcher), true) = (&mut self.watcher, self.armed) {
            for dir in &self.dirs {
                let _ = watcher.unwatch(dir);
            }
            self.armed = false;
        }
    }
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// False for reads, and for the files that logcd writes itself.
fn matters(event: &Event) -> bool {
    let only_read = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| is_ours(name.as_bytes()));
    event.need_rescan() || !only_read && (event.paths.is_empty() || !event.paths.iter().all(ours))
}
