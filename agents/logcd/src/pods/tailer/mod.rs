//! Follows all container logs in one thread. It sleeps until the kernel reports a change or the next sweep is
//! due. A sweep reads the logs that have grown, and commits their lines to the archives.

mod deleted_logs;
mod discovery;
mod retries;
mod sweep;

use crate::error::ArchiveError;
use crate::pods::config::{PodsConfig, RETRY, logs_within_limit};
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
    /// Watches had failed, but all of this sweep have worked so far.
    Recovering,
}

/// The logs that a sweep reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SweepExtent {
    /// The departed logs, and the older logs of their containers.
    Departed,
    /// All logs that may have grown.
    Grown,
    /// All logs. Departed logs end at once, because no other sweep follows.
    Last,
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
    /// The time of the next sweep for departed logs; `None` while there are none.
    departed_due: Option<Instant>,
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
    /// True if the last sweep read only a part of a log.
    has_more: bool,
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
        mut config: PodsConfig,
        (store, past): (Store, BTreeMap<String, Cursors>),
        abort: Arc<AtomicBool>,
        metrics: PodsMetrics,
    ) -> Result<Tailer, ArchiveError> {
        let on = |error| ArchiveError::on("follow the logs below", &config.pods)(error);
        let pods = SafeDir::open(&config.pods).map_err(on)?;
        let watches = Watches::new().map_err(on)?;
        config.logs_max = logs_within_limit(config.logs_max);
        let mut tailer = Tailer {
            store,
            pods,
            watches,
            containers: BTreeMap::new(),
            past,
            unseen: BTreeSet::new(),
            due: None,
            departed_due: None,
            swept: Instant::now(),
            is_checkpoint_old: false,
            sight: Sight::Full,
            retries: Retries::new(),
            refused: BTreeMap::new(),
            uncommitted: BTreeMap::new(),
            has_more: false,
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

    /// Applies changed settings.
    pub fn configure(&mut self, mut config: PodsConfig) {
        config.logs_max = logs_within_limit(config.logs_max);
        self.store.set_bounds(config.bounds.clone());
        self.config = config;
        // The next commit removes what is above the new bounds.
        self.is_checkpoint_old = true;
        self.due_within(Duration::ZERO);
    }

    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.watches.fd()
    }

    /// Returns the namespaces that cannot be archived, and the reasons.
    pub fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// True if some logs or directories could not be read, and must be tried again.
    pub fn has_unread(&self) -> bool {
        self.sight == Sight::Blind || self.retries.due().is_some()
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

    /// Returns the time of the next sweep: for lines, or for logs that could not be opened.
    fn next_due(&self) -> Option<Instant> {
        [self.due, self.departed_due, self.retries.due()].into_iter().flatten().min()
    }

    fn due_within(&mut self, within: Duration) {
        self.metrics.lines_may_wait();
        let at = Instant::now() + within;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn departed_due_within(&mut self, within: Duration) {
        self.metrics.lines_may_wait();
        let at = Instant::now() + within;
        self.departed_due = Some(self.departed_due.map_or(at, |due| due.min(at)));
    }

    /// Returns the sweep that is due now.
    fn due_sweep(&self) -> Option<SweepExtent> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let has_hour_ended = !self.store.hour().is_same_hour(self.config.hour());
        if is_due(self.due) || is_due(self.retries.due()) || has_hour_ended && self.next_due().is_some() {
            return Some(SweepExtent::Grown);
        }
        // After a failure, only a whole sweep shows if it persists.
        let is_sound = self.sight == Sight::Full && self.refused.is_empty();
        let extent = if is_sound { SweepExtent::Departed } else { SweepExtent::Grown };
        is_due(self.departed_due).then_some(extent)
    }

    /// Runs one iteration: reads the kernel's reports, and sweeps if a sweep is due. Returns true after a
    /// sweep of all logs. After an error, such a sweep is due soon.
    pub fn turn(&mut self) -> Result<bool, ArchiveError> {
        let turned = self.try_turn();
        if turned.is_err() {
            self.due_within(RETRY);
        }
        turned
    }

    fn try_turn(&mut self) -> Result<bool, ArchiveError> {
        if self.due.is_none() && self.departed_due.is_none() {
            // Lines that are reported from now on belong to this hour.
            self.store.begin_hour(self.config.hour())?;
        }
        self.take_reports()?;
        let due = self.due_sweep();
        if let Some(extent) = due {
            self.sweep(extent)?;
        }
        Ok(due == Some(SweepExtent::Grown))
    }

    /// Archives everything that was written until now.
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        // The logs that are open already are archived even if no other can be found.
        let found = match self.is_over {
            true => Ok(()),
            false => self.take_reports().and(self.find_pods()),
        };
        self.look_at_unseen();
        let swept = match self.sweep(SweepExtent::Last) {
            // The lines go to a new part now, because no later sweep follows.
            Err(ArchiveError::ArchiveChanged(_)) => self.sweep(SweepExtent::Last),
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

    /// Makes a container and its log, and returns the log's path.
    fn log(root: &std::path::Path, container: &str, text: &str) -> std::path::PathBuf {
        let dir = root.join("pods").join(container);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("0.log"), text).unwrap();
        dir.join("0.log")
    }

    /// Follows the logs below `pods`.
    fn tailer(root: &std::path::Path) -> Tailer {
        let root = root.canonicalize().unwrap();
        let (pods, out) = (root.join("pods"), root.join("out"));
        std::fs::create_dir_all(&pods).unwrap();
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
        tailer.sweep(SweepExtent::Grown).unwrap();
        assert_eq!(tailer.pause(), None);
        tailer.note_blind(Err(io::Error::other("no watches left")));
        assert!(tailer.pause().is_some());
        tailer.sweep(SweepExtent::Grown).unwrap();
        tailer.sweep(SweepExtent::Grown).unwrap();
        assert_eq!((tailer.sight, tailer.pause()), (Sight::Full, None));
    }

    fn archived(root: &std::path::Path) -> Vec<String> {
        trial::kubelet::lines_of_all(&root.join("out"))
    }

    #[test]
    fn given_up_log_is_counted_and_shown() {
        let root = tempfile::tempdir().unwrap();
        let log = log(root.path(), "shop_web_1/app", "a\n");
        let mut tailer = tailer(root.path());
        std::fs::remove_dir_all(log.parent().unwrap()).unwrap();
        tailer.give_up_all_deleted_logs();
        assert_eq!(tailer.metrics.lost_logs.get(), 1);
        let shown = tailer.metrics.overview.read().borrow().clone();
        assert_eq!((shown.lost_logs, &*shown.losses[0].container), (1, "shop_web_1/app"));
    }

    #[test]
    fn renamed_log_needs_no_hurry() {
        let root = tempfile::tempdir().unwrap();
        let log = log(root.path(), "shop_web_1/app", "a\n");
        let mut tailer = tailer(root.path());
        tailer.sweep(SweepExtent::Grown).unwrap();
        let soon = Instant::now() + Duration::from_secs(30);
        std::fs::rename(&log, log.with_file_name("0.log.20261128-140500")).unwrap();
        tailer.take_reports().unwrap();
        assert!(tailer.next_due().unwrap() > soon);
        std::fs::remove_file(log.with_file_name("0.log.20261128-140500")).unwrap();
        tailer.take_reports().unwrap();
        assert!(tailer.next_due().unwrap() < soon);
    }

    #[test]
    fn departed_log_is_read_without_the_others() {
        let root = tempfile::tempdir().unwrap();
        let append = |log: &std::path::Path, text: &str| {
            let mut file = OpenOptions::new().append(true).open(log).unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        let (job, web) = (log(root.path(), "shop_job_1/app", ""), log(root.path(), "shop_web_1/app", ""));
        let mut tailer = tailer(root.path());
        append(&job, "job 1\n");
        append(&web, "web 1\n");
        std::fs::remove_file(&job).unwrap();
        std::fs::write(&job, "job 2\n").unwrap();
        tailer.take_reports().unwrap();
        let due = tailer.due;
        tailer.sweep(SweepExtent::Departed).unwrap();
        assert_eq!(archived(root.path()), ["job 1"]);
        assert_eq!(tailer.due, due);
        tailer.sweep(SweepExtent::Grown).unwrap();
        assert_eq!(archived(root.path()), ["job 1", "job 2", "web 1"]);
        // A container's lines are archived in the order in which they were written.
        append(&web, "web 2\n");
        std::fs::rename(&web, web.with_file_name("0.log.20261128-140500")).unwrap();
        std::fs::write(&web, "web 3\n").unwrap();
        tailer.take_reports().unwrap();
        std::fs::remove_dir_all(web.parent().unwrap()).unwrap();
        tailer.take_reports().unwrap();
        tailer.sweep(SweepExtent::Departed).unwrap();
        assert_eq!(archived(root.path())[3..], ["web 2", "web 3"]);
    }

    #[test]
    fn large_log_delays_no_other() {
        let root = tempfile::tempdir().unwrap();
        let large = log(root.path(), "aaa_large_1/app", "");
        // A newer log of the same container waits.
        let next = large.with_file_name("1.log");
        std::fs::write(&next, "next\n").unwrap();
        log(root.path(), "shop_web_1/app", "small\n");
        let size = 3 << 26;
        std::fs::File::options().write(true).open(&large).unwrap().set_len(size).unwrap();
        let mut tailer = tailer(root.path());
        tailer.sweep(SweepExtent::Grown).unwrap();
        let lines = archived(root.path());
        assert!(lines.contains(&"small".to_owned()) && !lines.contains(&"next".to_owned()));
        let dir: ContainerDir = "aaa_large_1/app".parse().unwrap();
        let offset = |tailer: &Tailer| tailer.containers[&dir].cursors().logs[0].offset;
        assert!(offset(&tailer) < size / 2, "{}", offset(&tailer));
        while tailer.has_more {
            assert!(tailer.pause() < Some(Duration::from_secs(1)));
            tailer.sweep(SweepExtent::Grown).unwrap();
        }
        assert_eq!(offset(&tailer), size);
        assert!(archived(root.path()).contains(&"next".to_owned()));
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
        tailer.sweep(SweepExtent::Grown).unwrap();
        assert!(tailer.containers.is_empty());
        assert_eq!((tailer.metrics.lost_logs.get(), tailer.pause()), (1, None));
    }
}
