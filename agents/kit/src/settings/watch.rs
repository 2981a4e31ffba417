//! Notices when the content of a mounted file changes: ConfigMaps, Secrets and plain files.
//!
//! kubelet updates a ConfigMap by swapping a symlink in its directory, and a watch on the file itself ends
//! with the first swap. So the directories are watched. An event only triggers a comparison of the content,
//! and a slow periodic look catches changes without an event.

use crate::exit::Fatal;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Long enough for a writer to finish and for a burst of events to be one change.
const SETTLE: Duration = Duration::from_millis(100);
/// The periodic look, in case an event is missed.
const SLOW_LOOK: Duration = Duration::from_secs(60);

/// A set of files that belong together.
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Vec<u8>>>,
    event: Arc<Notify>,
    /// The times of the next look after an event and of the next periodic look. They are kept here so that a
    /// wait that is cancelled and started again still ends.
    look_at: Option<Instant>,
    slow_look_at: Instant,
    _watcher: Option<RecommendedWatcher>,
}

impl WatchedFiles {
    /// Remembers the present content. Without files, nothing ever changes.
    pub fn new(paths: Vec<PathBuf>) -> WatchedFiles {
        let event = Arc::new(Notify::new());
        let watcher = match paths.is_empty() {
            true => None,
            false => watch_directories(&paths, event.clone())
                .inspect_err(|e| {
                    tracing::warn!(
                        event = "watch_failed",
                        error = %e,
                        "cannot watch for changes, checking once a minute instead"
                    );
                })
                .ok(),
        };
        let seen = read(&paths);
        let slow_look_at = Instant::now() + SLOW_LOOK;
        WatchedFiles { paths, seen, event, look_at: None, slow_look_at, _watcher: watcher }
    }

    /// Returns when the content of at least one file has changed. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.paths.is_empty() {
            // Do not even look periodically: an idle agent does not wake.
            return std::future::pending().await;
        }
        loop {
            if self.look_at.is_none() {
                let _ = timeout_at(self.slow_look_at, self.event.notified()).await;
            }
            sleep_until(*self.look_at.get_or_insert_with(|| Instant::now() + SETTLE)).await;
            self.look_at = None;
            self.slow_look_at = Instant::now() + SLOW_LOOK;
            let now = read(&self.paths);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

/// Follows the files with `load` until `drain`. If `load` fails, the error is logged and the last good value
/// stays, so that a half-written file never takes an endpoint down.
pub fn follow<T: Send + Sync + 'static>(
    what: &'static str,
    paths: Vec<PathBuf>,
    drain: CancellationToken,
    load: impl Fn() -> Result<T, Fatal> + Send + 'static,
) -> Result<watch::Receiver<T>, Fatal> {
    // Watch before the first look, so that no change falls in between.
    let mut files = WatchedFiles::new(paths);
    let (sender, receiver) = watch::channel(load()?);
    tokio::spawn(async move {
        while drain.run_until_cancelled(files.changed()).await.is_some() {
            match load() {
                Ok(loaded) => {
                    tracing::info!(event = "files_reloaded", files = what, "{what} reloaded");
                    sender.send_replace(loaded);
                }
                Err(e) => {
                    let error = e.one_line();
                    tracing::error!(
                        event = "files_rejected",
                        files = what,
                        error,
                        "the changed {what} cannot be used, keeping the old ones"
                    );
                }
            }
        }
    });
    Ok(receiver)
}

fn read(paths: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    paths.iter().map(|path| std::fs::read(path).ok()).collect()
}

fn watch_directories(paths: &[PathBuf], event: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |_| event.notify_one())?;
    for directory in directories(paths) {
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Returns the directory of each path and, where the path is a symlink, the directory of its target.
fn directories(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let real = paths.iter().filter_map(|path| path.canonicalize().ok());
    paths.iter().map(|path| parent(path)).chain(real.map(|path| parent(&path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// True if a change is noticed well before the periodic look: only an event can be the cause.
    async fn soon(files: &mut WatchedFiles) -> bool {
        tokio::time::timeout(Duration::from_secs(20), files.changed()).await.is_ok()
    }

    /// Updates a mount as kubelet does: makes a new timestamped directory, renames a new `..data` link over
    /// the old one, and removes the old directory.
    fn publish(mount: &Path, version: &str, content: &str) {
        let directory = mount.join(format!("..{version}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("logd.toml"), content).unwrap();
        let old = std::fs::read_link(mount.join("..data")).ok();
        symlink(format!("..{version}"), mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        if let Some(old) = old {
            std::fs::remove_dir_all(mount.join(old)).unwrap();
        }
    }

    #[tokio::test]
    async fn every_configmap_swap_is_noticed() {
        let mount = tempfile::tempdir().unwrap();
        publish(mount.path(), "v0", "a = 0");
        symlink("..data/logd.toml", mount.path().join("logd.toml")).unwrap();
        let mut files = WatchedFiles::new(vec![mount.path().join("logd.toml")]);
        for version in 1..4 {
            publish(mount.path(), &format!("v{version}"), &format!("a = {version}"));
            assert!(soon(&mut files).await, "swap {version} went unnoticed");
        }
    }

    #[tokio::test]
    async fn changed_file_is_noticed_touched_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logd.toml");
        std::fs::write(&path, "a").unwrap();
        let mut files = WatchedFiles::new(vec![path.clone()]);
        std::fs::write(&path, "b").unwrap();
        assert!(soon(&mut files).await);
        std::fs::write(directory.path().join("new"), "c").unwrap();
        std::fs::rename(directory.path().join("new"), &path).unwrap();
        assert!(soon(&mut files).await);
        std::fs::write(&path, "c").unwrap();
        let unchanged = tokio::time::timeout(SETTLE * 5, files.changed()).await;
        assert!(unchanged.is_err(), "the same content is no change");
    }
}
