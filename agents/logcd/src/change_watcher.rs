//! Waits for the kernel's reports of changes in the log directories, so that quiet directories are not
//! polled.

use crate::logs::walk::is_ours;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Reports one change after each start, not every one: a busy directory must not cause a wake-up for each
/// line.
pub struct ChangeWatcher {
    dirs: Vec<PathBuf>,
    mode: RecursiveMode,
    first_change: FirstChange,
    notify: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    is_watching: bool,
}

/// The time of the first change since the last start.
#[derive(Clone, Debug, Default)]
struct FirstChange(Arc<Mutex<Option<Instant>>>);

impl FirstChange {
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
        let (first_change, notify) = (FirstChange::default(), Arc::new(Notify::new()));
        let (change, notified) = (first_change.clone(), notify.clone());
        let handler = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(&event)) && change.is_first() {
                notified.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|e| {
                tracing::warn!(
                    event = "watch_failed",
                    error = %e,
                    "the kernel cannot report changes: checking at every interval"
                );
            })
            .ok();
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        ChangeWatcher { dirs, mode, first_change, notify, watcher, is_watching: false }
    }

    /// Starts to watch. Call this before a look, so that changes during it are a reason for the next one.
    pub fn start(&mut self) {
        *self.first_change.lock() = None;
        if let (Some(watcher), false) = (&mut self.watcher, self.is_watching) {
            let watched = self.dirs.iter().try_for_each(|dir| match watcher.watch(dir, self.mode) {
                // A missing directory has no changes; the comparison of directories notices when it appears.
                Err(error) if is_missing(&error) => Ok(()),
                watched => watched,
            });
            match watched {
                Ok(()) => self.is_watching = true,
                Err(error) => {
                    tracing::debug!(event = "watch_failed", %error, "the kernel cannot report changes");
                }
            }
        }
    }

    /// True if something may have changed since the last start.
    pub fn has_changed(&self) -> bool {
        !self.is_watching || self.changed_at().is_some()
    }

    /// Returns the time of the first change since the last start, if the kernel reported one.
    pub fn changed_at(&self) -> Option<Instant> {
        *self.first_change.lock()
    }

    /// Waits for the first change and stops watching. Cancel-safe.
    pub async fn changed(&mut self) {
        self.notify.notified().await;
        self.stop();
    }

    /// Stops watching, because a directory has been moved or replaced.
    pub fn stop(&mut self) {
        if let (Some(watcher), true) = (&mut self.watcher, self.is_watching) {
            for dir in &self.dirs {
                let _ = watcher.unwatch(dir);
            }
            self.is_watching = false;
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
