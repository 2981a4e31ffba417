//! Word from the kernel that something has happened in the log directory, so that a quiet one is not polled.

use crate::logs::scan::is_ours;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Rings once; a busy directory must not wake anybody for each of its lines.
pub struct Alarm {
    dir: PathBuf,
    mode: RecursiveMode,
    rung: Arc<AtomicBool>,
    ring: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    armed: bool,
}

impl Alarm {
    pub fn new(dir: &Path, recursive: bool) -> Alarm {
        let (rung, ring) = (Arc::new(AtomicBool::new(true)), Arc::new(Notify::new()));
        let (seen, bell) = (rung.clone(), ring.clone());
        let handler = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| matters(&event)) && !seen.swap(true, Ordering::Relaxed) {
                bell.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(
                |e| tracing::warn!(error = %e, "the kernel cannot tell of changes: looking every time"),
            )
            .ok();
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        Alarm { dir: dir.to_owned(), mode, rung, ring, watcher, armed: false }
    }

    /// Listens from now on. To be called before a look: what happens during it rings for the next one.
    pub fn arm(&mut self) {
        self.rung.store(false, Ordering::Relaxed);
        if let (Some(watcher), false) = (&mut self.watcher, self.armed) {
            match watcher.watch(&self.dir, self.mode) {
                Ok(()) => self.armed = true,
                Err(error) => tracing::debug!(%error, "the kernel cannot tell of changes"),
            }
        }
    }

    /// Whether a look is needed.
    pub fn has_rung(&self) -> bool {
        !self.armed || self.rung.load(Ordering::Relaxed)
    }

    /// Stops listening at the first ring: one is enough. Cancel-safe.
    pub async fn hush(&mut self) {
        self.ring.notified().await;
        if let (Some(watcher), true) = (&mut self.watcher, self.armed) {
            let _ = watcher.unwatch(&self.dir);
            self.armed = false;
        }
    }
}

/// Reading changes nothing, and what logcd writes itself is no news.
fn matters(event: &Event) -> bool {
    let only_read = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| is_ours(name.as_bytes()));
    event.need_rescan() || !only_read && (event.paths.is_empty() || !event.paths.iter().all(ours))
}
