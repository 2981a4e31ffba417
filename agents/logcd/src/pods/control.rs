//! Starts and stops the thread that follows container logs, and reports its failures.

use crate::error::ArchiveError;
use crate::once::fatal;
use crate::pods::config::PodsConfig;
use crate::pods::metrics::PodsMetrics;
use crate::pods::tailer::Tailer;
use crate::pods::watches::{Watched, Watches};
use crate::safe_dir::SafeDir;
use kit::daemon::Context;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::readiness::Readiness;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Time between two attempts to lock or open something.
const REOPEN_AFTER: Duration = Duration::from_millis(500);
/// The name of the reason in `/ready`.
const REASON: &str = "pods";

/// The flags that tell the thread to stop, and the event that wakes it.
struct StopFlags {
    /// True if the thread must archive what was written until now, and end.
    drain: AtomicBool,
    /// True if the thread must end at once.
    abort: Arc<AtomicBool>,
    wake: EventFd,
}

/// Runs until the daemon is drained, and applies each new configuration. With `has_directories`, the archiver
/// of directories decides about the reason `starting` in `/ready`.
pub async fn run(
    mut configs: watch::Receiver<PodsConfig>,
    metrics: PodsMetrics,
    context: Context,
    has_directories: bool,
) -> Result<(), Fatal> {
    let cannot =
        |errno: Errno| Fatal::new(Exit::System, "cannot make an event").because(io::Error::from(errno));
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(cannot)?;
    let stop = Arc::new(StopFlags { drain: AtomicBool::new(false), abort: Arc::default(), wake });
    let (ended, end) = oneshot::channel();
    let config = configs.borrow_and_update().clone();
    let follower = PodsThread {
        config,
        configs: configs.clone(),
        stop: stop.clone(),
        readiness: context.readiness.clone(),
        metrics,
        has_directories,
    };
    kit::daemon::spawn("logcd-pods", move || drop(ended.send(follower.run())))?;
    let gone = || Fatal::new(Exit::Failure, "the thread that follows container logs has died");
    let signal = async {
        loop {
            tokio::select! {
                () = context.stop.drain.cancelled() => break,
                Ok(()) = configs.changed() => {
                    let _ = stop.wake.write(1);
                }
            }
        }
        stop.drain.store(true, Ordering::Relaxed);
        let _ = stop.wake.write(1);
        context.stop.abort.cancelled().await;
        stop.abort.store(true, Ordering::Relaxed);
        let _ = stop.wake.write(1);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = end => result.map_err(|_| gone())?,
        () = signal => Ok(()),
    }
}

struct PodsThread {
    config: PodsConfig,
    configs: watch::Receiver<PodsConfig>,
    stop: Arc<StopFlags>,
    readiness: Readiness,
    metrics: PodsMetrics,
    has_directories: bool,
}

impl PodsThread {
    fn is_draining(&self) -> bool {
        self.stop.drain.load(Ordering::Relaxed)
    }

    fn is_aborting(&self) -> bool {
        self.stop.abort.load(Ordering::Relaxed)
    }

    /// Follows the logs until the daemon stops. Restarts after any failure.
    fn run(mut self) -> Result<(), Fatal> {
        kit::lifecycle::priority::lower_this_thread();
        loop {
            match self.follow() {
                Ok(()) | Err(ArchiveError::Aborted) => return Ok(()),
                Err(trouble) if self.is_draining() => return Err(fatal(trouble)),
                Err(trouble) => self.complain(trouble),
            }
            self.sleep(None, Some(REOPEN_AFTER));
            if self.is_draining() {
                return Ok(());
            }
        }
    }

    /// Takes over a new configuration. Returns true if there was one.
    fn renew(&mut self) -> bool {
        let has_changed = self.configs.has_changed().unwrap_or(false);
        if has_changed {
            self.config = self.config.renewed(self.configs.borrow_and_update().clone());
        }
        has_changed
    }

    /// Ends the reason `starting`, unless the archiver of directories decides about it.
    fn note_start(&self) {
        if !self.has_directories {
            self.readiness.clear("starting");
        }
    }

    fn complain(&self, trouble: ArchiveError) {
        let why = fatal(trouble).one_line();
        tracing::debug!(
            event = "container_archiving_failed",
            error = why,
            "container logs cannot be archived at present"
        );
        self.metrics.lines_may_wait();
        self.readiness.block(REASON, why);
    }

    /// Waits until the pods directory exists. The kernel reports names in its nearest ancestor.
    fn wait_for_directory(&self) -> Result<(), ArchiveError> {
        let pods = &self.config.pods;
        let on = |error| ArchiveError::on("wait for", pods)(error);
        let mut is_told = false;
        while !self.is_draining() {
            // Other errors are reported when the directory is followed.
            let Some(ancestor) = nearest_of_missing(pods) else { break };
            if !is_told {
                is_told = true;
                tracing::warn!(event = "pods_directory_missing", pods = %pods.display(), "the directory of container logs does not exist; waiting for it");
                self.metrics.directory_missing.set(1);
                self.note_start();
            }
            let mut watches = Watches::new().map_err(on)?;
            watches.directory(ancestor.fd(), Watched::Pods).map_err(on)?;
            // The kernel does not report a directory that was created before the watch began.
            if nearest_of_missing(pods).is_some_and(|now| now.path() == ancestor.path()) {
                self.sleep(Some(watches.fd()), None);
            }
        }
        self.metrics.directory_missing.set(0);
        Ok(())
    }

    fn follow(&mut self) -> Result<(), ArchiveError> {
        self.wait_for_directory()?;
        if self.is_draining() {
            return Ok(());
        }
        self.renew();
        let store = self.config.store()?;
        let mut tailer =
            Tailer::new(self.config.clone(), store, self.stop.abort.clone(), self.metrics.clone())?;
        tracing::info!(event = "container_archiving_started", pods = %self.config.pods.display(), out = %self.config.out.display(), "following container logs");
        self.note_start();
        while !self.is_draining() {
            if self.renew() {
                tailer.configure(self.config.clone());
            }
            match tailer.turn() {
                Ok(true) => self.readiness.clear(REASON),
                // Nothing was written, so an earlier failure may persist.
                Ok(false) => {}
                Err(trouble) if tailer.is_over() => {
                    // Logs that are still open are archived before everything is opened again.
                    let finished = tailer.finish();
                    tailer.give_up_all_deleted_logs();
                    return finished.and(Err(trouble));
                }
                Err(ArchiveError::Aborted) => return Err(ArchiveError::Aborted),
                // Nothing can be committed any more. The directory at the path must be opened again.
                Err(trouble) if tailer.has_lost_store() => {
                    tailer.give_up_all_deleted_logs();
                    return Err(trouble);
                }
                Err(trouble) => self.complain(trouble),
            }
            self.sleep(Some(tailer.fd()), tailer.pause());
        }
        match self.is_aborting() {
            true => Err(ArchiveError::Aborted),
            false => tailer.finish(),
        }
    }

    /// Sleeps until the kernel reports a change, the time has passed, or the daemon stops.
    fn sleep(&self, reports: Option<BorrowedFd<'_>>, time: Option<Duration>) {
        if self.is_draining() {
            return;
        }
        let mut fds = vec![PollFd::new(self.stop.wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(reports.map(|reports| PollFd::new(reports, PollFlags::POLLIN)));
        // Waits a millisecond longer: after a timer that ends early, the thread would only sleep again.
        let time = time.map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut fds, time);
        // The flags and the configuration were set before the event.
        let _ = self.stop.wake.read();
    }
}

/// Opens the nearest ancestor of a directory that does not exist. `None` if it exists or cannot be opened.
fn nearest_of_missing(path: &Path) -> Option<SafeDir> {
    SafeDir::open(path).err().filter(|error| error.kind() == io::ErrorKind::NotFound)?;
    path.ancestors().skip(1).find_map(|ancestor| SafeDir::open(ancestor).ok())
}
