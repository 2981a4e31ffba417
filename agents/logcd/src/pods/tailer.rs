//! Follows all container logs in one thread, which sleeps until the kernel reports a change or the next sweep
//! is due. A sweep reads the logs that have grown, and commits their lines to the archives.

use crate::archive::header::Meta;
use crate::day::Calendar;
use crate::error::ArchiveError;
use crate::pods::cri;
use crate::pods::cursor::Cursors;
use crate::pods::followed_container::FollowedContainer;
use crate::pods::followed_log::{FollowedLog, Phase};
use crate::pods::hour::ArchiveName;
use crate::pods::metrics::PodsMetrics;
use crate::pods::place::{ContainerDir, LogName, PodDir};
use crate::pods::store::{Bounds, Evicted, Store, names};
use crate::pods::watches::{Change, Watched, Watches};
use crate::safe_dir::SafeDir;
use jiff::{Timestamp, ToSpan};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Moved and deleted logs are read within this time, because a deleted log occupies disk space until then.
const MOVED_WITHIN: Duration = Duration::from_secs(1);
/// A deleted log that has not grown for this time counts as ended: its writer is gone.
const DEPARTED_QUIET: Duration = Duration::from_secs(2);
/// During a long sweep, the kernel's reports are read each time that this many bytes were archived.
const REPORTS_EVERY_BYTES: u64 = 4 << 20;
/// Time between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// The number of lost containers that are logged by name. The others are only counted.
const NAMED_MAX: usize = 10;

/// The settings for container logs, after they were checked.
#[derive(Clone, Debug)]
pub struct PodsConfig {
    pub pods: PathBuf,
    pub out: PathBuf,
    pub within: Duration,
    pub bounds: Bounds,
    pub calendar: Calendar,
    pub mode: u32,
    pub level: u32,
    /// Limit on the bytes of a log that are holes.
    pub hole_bytes_max: u64,
    pub logs_max: usize,
}

impl PodsConfig {
    fn hour(&self) -> ArchiveName {
        ArchiveName::at(self.calendar.at(Timestamp::now()).datetime())
    }

    /// Opens and locks the directory for archives.
    pub fn store(&self) -> Result<(Store, BTreeMap<String, Cursors>), ArchiveError> {
        Store::open(&self.out, self.mode, self.level, self.bounds.clone(), self.hour())
    }

    fn until_next_hour(&self) -> Duration {
        let now = self.calendar.at(Timestamp::now());
        let next = now.checked_add(1.hour()).ok().and_then(|later| {
            later.round(jiff::ZonedRound::new().smallest(jiff::Unit::Hour).mode(jiff::RoundMode::Trunc)).ok()
        });
        next.and_then(|next| next.timestamp().duration_since(now.timestamp()).try_into().ok())
            .unwrap_or(RETRY)
    }
}

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

    /// Watches the pods directory, then lists it. In this order no pod is missed.
    fn find_pods(&mut self) -> Result<(), ArchiveError> {
        let on = |error| ArchiveError::on("follow the logs below", &self.config.pods)(error);
        let fd = self.pods.directory(b"").map_err(on)?;
        let watched = self.watches.directory(&fd, Watched::Pods);
        self.note_blind(watched);
        for name in names(&self.pods, b"")? {
            if let Ok(pod) = name.parse::<PodDir>() {
                self.find_containers(&pod);
            }
        }
        Ok(())
    }

    fn find_containers(&mut self, pod: &PodDir) {
        // The pod may be gone already, with everything in it.
        let Ok(fd) = self.pods.directory(pod.to_string().as_bytes()) else { return };
        let watched = self.watches.directory(&fd, Watched::Pod(pod.clone()));
        self.note_blind(watched);
        for name in names(&self.pods, pod.to_string().as_bytes()).unwrap_or_default() {
            if let Ok(dir) = pod.container(&name) {
                self.unseen.insert(dir);
            }
        }
    }

    fn note_blind(&mut self, watched: io::Result<()>) {
        if let (Err(error), false) = (watched, self.is_blind) {
            tracing::warn!(event = "container_watch_failed", %error, "the kernel cannot report all changes: every log is checked each time; raise fs.inotify.max_user_watches");
            self.is_blind = true;
        }
    }

    fn look_at_unseen(&mut self) {
        let mut rounds = 0;
        while !self.unseen.is_empty() && rounds < 10 {
            rounds += 1;
            for dir in std::mem::take(&mut self.unseen) {
                self.look(&dir);
            }
        }
    }

    fn look(&mut self, dir: &ContainerDir) {
        let is_known = self.containers.contains_key(dir);
        let opened = self.pods.directory(dir.to_string().as_bytes());
        if let Ok(fd) = &opened {
            let watched = self.watches.directory(fd, Watched::Container(dir.clone()));
            self.note_blind(watched);
        } else if !is_known {
            return;
        }
        let past = &mut self.past;
        let others = self.containers.iter().filter(|(other, _)| *other != dir);
        let logs_elsewhere: usize = others.map(|(_, container)| container.logs.len()).sum();
        let container = self.containers.entry(dir.clone()).or_insert_with(|| {
            FollowedContainer::new(dir.clone(), past.remove(&dir.to_string()).unwrap_or_default())
        });
        let room = self.config.logs_max.saturating_sub(logs_elsewhere);
        match container.look(&self.pods, room) {
            Ok(findings) => {
                self.metrics.skipped_names.inc_by(findings.skipped);
                if findings.lost > 0 {
                    let (pod, container) = (&dir.pod, &dir.container);
                    tracing::warn!(
                        event = "container_logs_lost",
                        namespace = pod.namespace,
                        pod = pod.pod,
                        container,
                        logs = findings.lost,
                        "logs went before they were read to their end"
                    );
                    self.metrics.lost_logs.inc_by(findings.lost);
                }
                if findings.is_unclear {
                    self.unseen.insert(dir.clone());
                }
                self.is_checkpoint_old |= findings.has_moved || findings.lost > 0;
                if findings.opened > 0 {
                    self.due_within(self.config.within);
                }
                if findings.has_moved {
                    self.due_within(MOVED_WITHIN.saturating_sub(self.swept.elapsed()));
                }
            }
            Err(error) => {
                tracing::warn!(event = "container_unreadable", container = %dir, %error, "cannot look at a container's logs");
                self.is_blind = true;
                self.due_within(RETRY);
            }
        }
    }

    /// Logs and counts the containers that were removed while logcd was not running. A container that only cannot
    /// be read at present keeps its cursors.
    fn tell_lost_containers(&mut self) {
        let mut named = 0;
        for (dir, cursors) in std::mem::take(&mut self.past) {
            let opened = self.pods.directory(dir.as_bytes());
            if !opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                self.past.insert(dir, cursors);
                self.due_within(RETRY);
                continue;
            }
            let lost = cursors.logs.iter().filter(|cursor| !cursor.is_whole).count();
            if lost == 0 {
                continue;
            }
            self.metrics.lost_logs.inc_by(lost as u64);
            self.is_checkpoint_old = true;
            self.due_within(self.config.within);
            named += 1;
            if named <= NAMED_MAX {
                tracing::warn!(
                    event = "container_missed",
                    container = dir,
                    logs = lost,
                    "a container was removed while logcd was not running; its last lines may be missing"
                );
            }
        }
        if named > NAMED_MAX {
            tracing::warn!(
                event = "more_containers_missed",
                containers = named - NAMED_MAX,
                "more containers were removed; see the metrics"
            );
        }
    }

    /// Reads all logs that may have grown, and commits. The last sweep also ends deleted logs at once.
    fn sweep(&mut self, is_last: bool) -> Result<(), ArchiveError> {
        self.due = None;
        self.swept = Instant::now();
        if self.is_blind || !self.past.is_empty() {
            self.find_pods()?;
            self.look_at_unseen();
            self.tell_lost_containers();
        }
        let read = self.read_all(is_last).and_then(|()| self.commit());
        if let Err(trouble) = read {
            self.metrics.failures.inc();
            self.roll_back()?;
            if let ArchiveError::DiskFull { needed, .. } = trouble {
                let evicted = self.store.make_room(needed)?;
                self.tell_evicted(&evicted);
            }
            return Err(trouble);
        }
        self.store.begin_hour(self.config.hour())?;
        self.rest();
        Ok(())
    }

    fn read_all(&mut self, is_last: bool) -> Result<(), ArchiveError> {
        let mut lines = Vec::new();
        for dir in self.containers.keys().cloned().collect::<Vec<_>>() {
            // Until the next commit, no log is removed from a container.
            let logs = self.containers.get(&dir).map_or(0, |container| container.logs.len());
            for at in 0..logs {
                self.read_log(&dir, at, is_last, &mut lines)?;
            }
        }
        Ok(())
    }

    fn log(&mut self, dir: &ContainerDir, at: usize) -> Option<&mut FollowedLog> {
        self.containers.get_mut(dir)?.logs.get_mut(at)
    }

    /// Reads a log up to its present end.
    fn read_log(
        &mut self,
        dir: &ContainerDir,
        at: usize,
        is_last: bool,
        lines: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        let Some(end) = self.end_of(dir, at, is_last)? else { return Ok(()) };
        loop {
            if self.abort.load(Ordering::Relaxed) {
                return Err(ArchiveError::Aborted);
            }
            let Some(log) = self.log(dir, at) else { return Ok(()) };
            let ends = matches!(log.phase, Phase::Departed { quiet_since }
                if is_last || quiet_since.elapsed() >= DEPARTED_QUIET);
            if let Err(error) = log.read_lines(end, ends, lines) {
                tracing::warn!(event = "container_log_unreadable", container = %dir, log = %log.name, %error, "a log cannot be read further");
                if log.phase == Phase::Packed {
                    log.phase = Phase::Ended;
                }
                return Ok(());
            }
            if lines.is_empty() {
                if ends && log.is_as_seen() {
                    log.phase = Phase::Ended;
                }
                return Ok(());
            }
            if let Phase::Departed { quiet_since } = &mut log.phase {
                *quiet_since = Instant::now();
            }
            let (name, meta) = (log.name.clone(), log.meta);
            self.add(dir, &name, meta, lines)?;
        }
    }

    /// Returns the end up to which a log is read in this sweep; `None` if it is not read.
    fn end_of(&mut self, dir: &ContainerDir, at: usize, is_last: bool) -> Result<Option<u64>, ArchiveError> {
        let (reads_quiet, hole_bytes_max) = (is_last || self.is_blind, self.config.hole_bytes_max);
        let Some(log) = self.log(dir, at) else { return Ok(None) };
        if log.phase == Phase::Ended || log.phase == Phase::Quiet && !reads_quiet {
            return Ok(None);
        }
        let failed = |error| ArchiveError::doing(format!("look at a log of {dir}"))(error);
        let look = log.look().map_err(failed)?;
        if log.phase != Phase::Packed && look.stamp.size > look.allocated.saturating_add(hole_bytes_max) {
            // Reading this log would return zeros for hours.
            if matches!(log.phase, Phase::Departed { .. }) {
                log.phase = Phase::Ended;
            }
            return Ok(None);
        }
        let (end, is_truncated) = log.measure().map_err(failed)?;
        if is_truncated {
            self.metrics.truncated_logs.inc();
        }
        Ok(Some(end))
    }

    /// Adds lines to the archives. From time to time, also reads the kernel's reports or commits.
    fn add(
        &mut self,
        dir: &ContainerDir,
        name: &LogName,
        meta: Meta,
        lines: &[u8],
    ) -> Result<(), ArchiveError> {
        let span = cri::span(lines);
        let last_s = span.and_then(|(_, last)| u64::try_from(last.as_second()).ok());
        let meta = Meta { mtime_s: last_s.unwrap_or(meta.mtime_s), ..meta };
        self.store.add(dir, name, meta, span, lines)?;
        self.metrics.read_bytes.inc_by(lines.len() as u64);
        self.unreported_bytes += lines.len() as u64;
        if self.unreported_bytes >= REPORTS_EVERY_BYTES {
            self.unreported_bytes = 0;
            self.take_reports()?;
        }
        match self.store.is_full() {
            true => self.commit_in_between(),
            false => Ok(()),
        }
    }

    fn cursors(&self) -> BTreeMap<String, Cursors> {
        let known = self.containers.iter().map(|(dir, container)| (dir.to_string(), container.cursors()));
        known.chain(self.past.iter().map(|(dir, cursors)| (dir.clone(), cursors.clone()))).collect()
    }

    /// Commits, and drops the logs and containers that have ended.
    fn commit(&mut self) -> Result<(), ArchiveError> {
        self.commit_in_between()?;
        self.containers.retain(|_, container| {
            container.drop_ended();
            !container.is_over()
        });
        Ok(())
    }

    fn commit_in_between(&mut self) -> Result<(), ArchiveError> {
        let logs = || self.containers.values().flat_map(|container| &container.logs);
        if !self.is_checkpoint_old && !logs().any(|log| log.has_news() || log.phase == Phase::Ended) {
            return Ok(());
        }
        self.store.commit(self.cursors())?;
        // The lines are in the archives now. They must not be read again if a later step fails.
        for log in self.containers.values_mut().flat_map(|container| &mut container.logs) {
            log.commit();
        }
        self.is_checkpoint_old = true;
        self.store.show()?;
        self.is_checkpoint_old = false;
        match self.store.tidy() {
            Ok(evicted) => self.tell_evicted(&evicted),
            Err(error) => {
                let error = error.one_line();
                tracing::warn!(
                    event = "archive_tidying_failed",
                    error,
                    "cannot close or remove archives of container logs; it is tried again after the next commit"
                );
            }
        }
        let metrics = &self.metrics;
        metrics.commits.inc();
        metrics.packed_bytes.inc_by(std::mem::take(&mut self.store.packed_bytes));
        metrics.kept_bytes.set(i64::try_from(self.store.kept_bytes()).unwrap_or(i64::MAX));
        metrics.committed_timestamp_seconds.set(Timestamp::now().as_second());
        Ok(())
    }

    fn tell_evicted(&self, evicted: &[Evicted]) {
        for Evicted { namespace, bytes } in evicted {
            self.metrics.evicted(namespace, *bytes);
        }
    }

    fn roll_back(&mut self) -> Result<(), ArchiveError> {
        for log in self.containers.values_mut().flat_map(|container| &mut container.logs) {
            log.roll_back();
        }
        self.store.roll_back()
    }

    /// Ends a sweep: logs that did not grow become quiet, and a sweep for the others is scheduled.
    fn rest(&mut self) {
        let mut next = None::<Duration>;
        let mut within = |time: Duration| next = Some(next.map_or(time, |next| next.min(time)));
        let (mut logs, mut departed) = (0, 0);
        let mut unwatched = None;
        for (dir, container) in &mut self.containers {
            for log in &mut container.logs {
                logs += 1;
                match log.phase {
                    Phase::Growing if log.is_swept_without_news() => {
                        match self.watches.log(log.file(), Watched::Log(dir.clone(), log.inode)) {
                            // A write before the watch began is not reported, so the size is checked.
                            Ok(()) if log.is_as_seen() => log.phase = Phase::Quiet,
                            Ok(()) => within(self.config.within),
                            Err(error) => {
                                unwatched = Some(error);
                                within(self.config.within);
                            }
                        }
                    }
                    Phase::Growing => within(self.config.within),
                    Phase::Departed { .. } => {
                        departed += 1;
                        within(DEPARTED_QUIET);
                    }
                    Phase::Packed => within(RETRY),
                    Phase::Quiet | Phase::Ended => {}
                }
            }
        }
        if let Some(error) = unwatched {
            self.note_blind(Err(error));
        }
        if self.is_blind {
            within(self.config.within);
        }
        if !self.past.is_empty() {
            within(RETRY);
        }
        if let Some(within) = next {
            self.due_within(within);
        }
        self.metrics.logs.set(logs);
        self.metrics.departed_logs.set(departed);
    }
}
