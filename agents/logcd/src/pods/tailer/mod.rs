//! Follows all container logs in one thread, which sleeps until the kernel reports a change or the next sweep
//! is due. A sweep reads the logs that have grown, and commits their lines to the archives.

mod discovery;
mod sweep;

use crate::error::ArchiveError;
use crate::pods::config::{PodsConfig, RETRY};
use crate::pods::cursor::Cursors;
use crate::pods::followed_container::FollowedContainer;
use crate::pods::followed_log::Phase;
use crate::pods::metrics::PodsMetrics;
use crate::pods::place::ContainerDir;
use crate::pods::store::Store;
use crate::pods::watches::{Change, Watched, Watches};
use crate::safe_dir::SafeDir;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub struct Tailer {
    config: PodsConfig,
    store: Store,
    pods: SafeDir,
    watches: Watches,
    containers: BTreeMap<ContainerDir, FollowedContainer>,
    /// Cursors of containers that were not found yet.
    past: BTreeMap<String, Cursors>,
    /// Container directories to look at next.
    unseen: BTreeSet<ContainerDir>,
    /// The time of the next sweep; `None` while no log may have grown.
    due: Option<Instant>,
    swept: Instant,
    /// True if the next sweep must write a checkpoint even without new lines.
    is_checkpoint_old: bool,
    /// True if the kernel cannot report all changes, so each sweep looks at everything.
    is_blind: bool,
    /// Bytes archived since the kernel's reports were last read.
    unreported_bytes: u64,
    /// True once the pods directory is gone.
    is_over: bool,
    abort: Arc<AtomicBool>,
    metrics: PodsMetrics,
}

impl Tailer {
    /// Opens all container logs. Logs a warning for each container of the checkpoint that is gone.
    pub fn new(
        config: PodsConfig,
        (store, past): (Store, BTreeMap<String, Cursors>),
        abort: Arc<AtomicBool>,
        metrics: PodsMetrics,
    ) -> Result<Tailer, ArchiveError> {
        let on = |error| ArchiveError::on("follow the logs below", &config.pods)(error);
        let pods = SafeDir::open(&config.pods).map_err(on)?;
        let watches = Watches::new().map_err(on)?;
        let mut tailer = Tailer {
            store,
            pods,
            watches,
            containers: BTreeMap::new(),
            past,
            unseen: BTreeSet::new(),
            due: None,
            swept: Instant::now(),
            is_checkpoint_old: false,
            is_blind: false,
            unreported_bytes: 0,
            is_over: false,
            abort,
            metrics,
            config,
        };
        tailer.find_pods()?;
        tailer.look_at_unseen();
        tailer.tell_lost_containers();
        if !tailer.past.is_empty() {
            tracing::warn!(
                event = "containers_unreadable",
                containers = tailer.past.len(),
                "containers that were followed cannot be looked at; they are tried again"
            );
        }
        // The first sweep shows whether archives can be written.
        tailer.due_within(RETRY.min(tailer.config.within));
        Ok(tailer)
    }

    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.watches.fd()
    }

    /// True if everything must be opened again.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// True if the directory for archives was removed, moved or replaced.
    pub fn has_lost_store(&self) -> bool {
        self.store.is_moved()
    }

    /// Returns the time until the next sweep; `None` while no sweep is due.
    pub fn pause(&self) -> Option<Duration> {
        let due = self.due?.saturating_duration_since(Instant::now());
        Some(due.min(self.config.until_next_hour()))
    }

    fn due_within(&mut self, within: Duration) {
        self.metrics.lines_may_wait();
        let at = Instant::now() + within;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Runs one iteration: reads the kernel's reports, and sweeps if a sweep is due. Returns true after a sweep.
    /// After an error a sweep is due soon.
    pub fn turn(&mut self) -> Result<bool, ArchiveError> {
        let turned = self.try_turn();
        if turned.is_err() {
            self.due_within(RETRY);
        }
        turned
    }

    fn try_turn(&mut self) -> Result<bool, ArchiveError> {
        if self.due.is_none() {
            // Lines that are reported now belong to this hour.
            self.store.begin_hour(self.config.hour())?;
        }
        self.take_reports()?;
        let has_hour_ended = !self.store.hour().is_same_hour(self.config.hour());
        let is_due = self.due.is_some_and(|due| due <= Instant::now() || has_hour_ended);
        if is_due {
            self.sweep(false)?;
        }
        Ok(is_due)
    }

    /// Archives everything that was written until now.
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        if !self.is_over {
            self.take_reports()?;
            self.find_pods()?;
        }
        self.look_at_unseen();
        match self.sweep(true) {
            // The lines go to a new part, and there is no later sweep.
            Err(ArchiveError::ArchiveChanged(_)) => self.sweep(true),
            swept => swept,
        }
    }

    fn take_reports(&mut self) -> Result<(), ArchiveError> {
        let reports = self.watches.take().map_err(ArchiveError::on("watch", &self.config.pods))?;
        for report in reports {
            match report {
                Change::Overflow => {
                    self.doubt_everything();
                    self.find_pods()?;
                }
                Change::Changed(Watched::Pods) => self.find_pods()?,
                Change::Gone(Watched::Pods) => {
                    self.is_over = true;
                    let gone = io::Error::new(io::ErrorKind::NotFound, "it was removed or replaced");
                    return Err(ArchiveError::on("follow the logs below", &self.config.pods)(gone));
                }
                Change::Changed(Watched::Pod(pod)) => self.find_containers(&pod),
                Change::Gone(Watched::Pod(_)) => {}
                Change::Changed(Watched::Container(dir)) | Change::Gone(Watched::Container(dir)) => {
                    self.unseen.insert(dir);
                }
                Change::Changed(Watched::Log(dir, inode)) | Change::Gone(Watched::Log(dir, inode)) => {
                    self.grew(&dir, inode);
                }
            }
        }
        self.look_at_unseen();
        Ok(())
    }

    /// Looks at every log and container again, after reports of the kernel were lost.
    fn doubt_everything(&mut self) {
        self.unseen.extend(self.containers.keys().cloned());
        for log in self.containers.values_mut().flat_map(|container| &mut container.logs) {
            if log.phase == Phase::Quiet {
                log.phase = Phase::Growing;
            }
        }
        self.due_within(self.config.within);
    }

    fn grew(&mut self, dir: &ContainerDir, inode: u64) {
        let Some(container) = self.containers.get_mut(dir) else { return };
        for log in container.logs.iter_mut().filter(|log| log.inode == inode && log.phase == Phase::Quiet) {
            log.phase = Phase::Growing;
        }
        self.due_within(self.config.within);
    }
}
