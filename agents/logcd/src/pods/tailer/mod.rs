//! Follows all container logs in one thread. It sleeps until the kernel reports a change or the next sweep is
//! due. A sweep reads the logs that have grown, and commits their lines to the archives.

mod deleted_logs;
mod discovery;
mod retries;
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
use retries::Retries;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The extent to which the kernel can report changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Everything is watched.
    Full,
    /// Something could not be watched. Each sweep examines everything and retries the watches.
    Blind,
    /// After a failure, all watches in this sweep have worked so far.
    Recovering,
}

pub struct Tailer {
    config: PodsConfig,
    store: Store,
    pods: SafeDir,
    watches: Watches,
    containers: BTreeMap<ContainerDir, FollowedContainer>,
    /// Cursors of containers that are not found yet.
    past: BTreeMap<String, Cursors>,
    /// Container directories to examine next.
    unseen: BTreeSet<ContainerDir>,
    /// The time of the next sweep for lines; `None` while no log may have grown.
    due: Option<Instant>,
    swept: Instant,
    /// True if the next sweep must write a checkpoint even without new lines.
    is_checkpoint_old: bool,
    sight: Sight,
    /// Containers to examine again although the kernel reports nothing.
    retries: Retries,
    /// Namespaces that cannot be archived at present, and the reasons.
    refused: BTreeMap<String, String>,
    /// The bytes of each namespace that were read after the last commit.
    uncommitted: BTreeMap<String, u64>,
    /// Bytes archived since the last read of the kernel's reports.
    unreported_bytes: u64,
    /// True once the pods directory is gone.
    is_over: bool,
    abort: Arc<AtomicBool>,
    metrics: PodsMetrics,
}

impl Tailer {
    /// Opens all container logs. Logs a warning for each container in the checkpoint that no longer exists.
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
            sight: Sight::Full,
            retries: Retries::new(),
            refused: BTreeMap::new(),
            uncommitted: BTreeMap::new(),
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
        // The first sweep shows if archives can be written.
        tailer.due_within(RETRY.min(tailer.config.within));
        Ok(tailer)
    }

    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.watches.fd()
    }

    /// Returns the namespaces that cannot be archived, and the reasons.
    pub fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
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
        let due = self.next_due()?.saturating_duration_since(Instant::now());
        Some(due.min(self.config.until_next_hour()))
    }

    /// Returns the time of the next sweep, either for lines or for logs that could not be opened.
    fn next_due(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.retries.due()).min()
    }

    fn due_within(&mut self, within: Duration) {
        self.metrics.lines_may_wait();
        let at = Instant::now() + within;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Runs one iteration: reads the kernel's reports, and sweeps if a sweep is due. Returns true after a
    /// sweep. After an error, a sweep is due soon.
    pub fn turn(&mut self) -> Result<bool, ArchiveError> {
        let turned = self.try_turn();
        if turned.is_err() {
            self.due_within(RETRY);
        }
        turned
    }

    fn try_turn(&mut self) -> Result<bool, ArchiveError> {
        if self.due.is_none() {
            // Lines that are reported from now on belong to this hour.
            self.store.begin_hour(self.config.hour())?;
        }
        self.take_reports()?;
        let has_hour_ended = !self.store.hour().is_same_hour(self.config.hour());
        let is_due = self.next_due().is_some_and(|due| due <= Instant::now() || has_hour_ended);
        if is_due {
            self.sweep(false)?;
        }
        Ok(is_due)
    }

    /// Archives everything that was written until now.
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        // The logs that are open already are archived even if no other can be found.
        let found = match self.is_over {
            true => Ok(()),
            false => self.take_reports().and(self.find_pods()),
        };
        self.look_at_unseen();
        let swept = match self.sweep(true) {
            // The lines go to a new part now, because no later sweep follows.
            Err(ArchiveError::ArchiveChanged(_)) => self.sweep(true),
            swept => swept,
        };
        swept.and(found)
    }

    fn take_reports(&mut self) -> Result<(), ArchiveError> {
        let reports = self.watches.take().map_err(ArchiveError::on("watch", &self.config.pods))?;
        let mut result = Ok(());
        for report in reports {
            match report {
                Change::Overflow => {
                    self.doubt_everything();
                    result = result.and(self.find_pods());
                }
                // The kernel does not repeat the other reports, so an error must not drop them.
                Change::Changed(Watched::Pods) => result = result.and(self.find_pods()),
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
        result
    }

    /// Marks every log and container to be examined again, because reports of the kernel were lost.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::day::Calendar;
    use crate::pods::bounds::{Bound, Bounds};
    use crate::pods::followed_log::FollowedLog;
    use crate::safe_dir::status_of;
    use std::fs::OpenOptions;

    /// A tailer of an empty directory.
    fn tailer(root: &std::path::Path) -> Tailer {
        let root = root.canonicalize().unwrap();
        let (pods, out) = (root.join("pods"), root.join("out"));
        std::fs::create_dir(&pods).unwrap();
        std::fs::create_dir(&out).unwrap();
        let all = Bound { bytes: u64::MAX, days: u32::MAX };
        let config = PodsConfig {
            pods,
            out,
            within: Duration::from_secs(60),
            bounds: Bounds { all, namespaces: Vec::new(), min_free: "1".parse().unwrap(), days: None },
            calendar: Calendar::new(true),
            mode: 0o600,
            codec: crate::archive::codec::Codec::Gzip,
            level: 1,
            hole_bytes_max: 1 << 30,
            logs_max: 10,
            deleted_bytes_max: 1 << 30,
            own_pod: None,
        };
        let store = config.store().unwrap();
        Tailer::new(config, store, Arc::default(), PodsMetrics::default()).unwrap()
    }

    /// The kernel reports nothing about what is not watched.
    #[test]
    fn failed_watch_causes_a_sweep() {
        let root = tempfile::tempdir().unwrap();
        let mut tailer = tailer(root.path());
        tailer.sweep(false).unwrap();
        assert_eq!(tailer.pause(), None);
        tailer.note_blind(Err(io::Error::other("no watches left")));
        assert!(tailer.pause().is_some());
        tailer.sweep(false).unwrap();
        tailer.sweep(false).unwrap();
        assert_eq!((tailer.sight, tailer.pause()), (Sight::Full, None));
    }

    #[test]
    fn unreadable_deleted_log_ends_as_lost() {
        let root = tempfile::tempdir().unwrap();
        let mut tailer = tailer(root.path());
        // A file that is only open for writing fails at each read.
        let path = root.path().join("0.log");
        std::fs::write(&path, "line\n").unwrap();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let look = status_of(&file).unwrap();
        let mut log = FollowedLog::new("0.log".parse().unwrap(), file, &look, None);
        let quiet_since = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        log.phase = Phase::Departed { quiet_since };
        let dir: ContainerDir = "shop_web_1/app".parse().unwrap();
        let mut container = FollowedContainer::new(dir.clone(), Cursors::default());
        container.logs.push(log);
        tailer.containers.insert(dir, container);
        tailer.sweep(false).unwrap();
        assert!(tailer.containers.is_empty());
        assert_eq!((tailer.metrics.lost_logs.get(), tailer.pause()), (1, None));
    }
}
