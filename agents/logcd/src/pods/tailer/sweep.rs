//! One sweep: reads the logs that may have grown, commits their lines to the archives, and schedules the next
//! sweep.

use super::{Sight, SweepExtent, Tailer};
use crate::archive::header::Meta;
use crate::error::ArchiveError;
use crate::pods::config::RETRY;
use crate::pods::cri;
use crate::pods::cursor::Cursors;
use crate::pods::followed_container::FollowedContainer;
use crate::pods::followed_log::{FollowedLog, Phase};
use crate::pods::place::{ContainerDir, LogName};
use crate::pods::store::{Evicted, Evictions};
use crate::pods::veil::Span;
use crate::pods::watches::Watched;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The time without growth after which a deleted log counts as ended, because its writer is gone.
const DEPARTED_QUIET: Duration = Duration::from_secs(2);
/// Limit on the bytes that a sweep reads from one log. The next sweep follows at once, so that a large log
/// delays the others by this much only.
const LOG_BYTES_EACH_SWEEP: u64 = 64 << 20;
/// The archived bytes after which a long sweep reads the kernel's reports again.
const REPORTS_EVERY_BYTES: u64 = 4 << 20;

/// Shows if a sweep has read a log to its measured end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogRest {
    Read,
    /// The next sweep continues the log.
    Unread,
}

impl Tailer {
    /// Reads logs, commits their lines, and schedules the next sweep.
    pub(super) fn sweep(&mut self, extent: SweepExtent) -> Result<(), ArchiveError> {
        self.departed_due = None;
        if extent != SweepExtent::Departed {
            self.due = None;
        }
        self.swept = Instant::now();
        let looked = self.look_again();
        if extent != SweepExtent::Last {
            looked?;
        }
        self.store.complete_roll_back()?;
        let refused_before = std::mem::take(&mut self.refused);
        let mut read = self.read_and_commit(extent);
        // Each further attempt follows the removal of an archive, so there is an end to them.
        while let Err(ArchiveError::DiskFull { needed, .. }) = read
            && self.make_room(needed)?
        {
            read = self.read_and_commit(extent);
        }
        self.tell_refused(&refused_before);
        if let Err(error) = read {
            self.give_up_deleted_logs();
            return Err(error);
        }
        if !self.refused.is_empty() {
            self.give_up_deleted_logs();
        }
        if extent != SweepExtent::Departed {
            // Lines of the previous hour may still wait in other logs.
            self.store.begin_hour(self.config.hour())?;
        }
        self.rest(extent);
        Ok(())
    }

    /// Reads logs and commits their lines. Rolls back after an error.
    fn read_and_commit(&mut self, extent: SweepExtent) -> Result<(), ArchiveError> {
        loop {
            self.has_more = false;
            let read = self.read_all(extent).and_then(|()| self.commit());
            if read.is_err() {
                self.metrics.failures.inc();
                self.roll_back()?;
            }
            if read.is_err() || !self.has_more || extent != SweepExtent::Last {
                return read;
            }
        }
    }

    /// Removes old archives because the disk is full. Returns true if there were any.
    fn make_room(&mut self, needed_bytes: u64) -> Result<bool, ArchiveError> {
        let Evictions { evicted, result } = self.store.make_room(needed_bytes)?;
        self.tell_evicted(&evicted);
        result.map(|()| !evicted.is_empty())
    }

    fn read_all(&mut self, extent: SweepExtent) -> Result<(), ArchiveError> {
        let mut lines = Vec::new();
        self.containers.values_mut().for_each(FollowedContainer::sort);
        for dir in self.containers.keys().cloned().collect::<Vec<_>>() {
            // No log is removed from a container before the next commit.
            for (at, end) in self.ends_of(&dir, extent)?.into_iter().enumerate() {
                if self.refused.contains_key(&dir.pod.namespace) {
                    break;
                }
                if let Some(end) = end
                    && self.read_log(&dir, at, end, extent, &mut lines)? == LogRest::Unread
                {
                    self.has_more = true;
                    // The lines of newer logs come after those that are still unread.
                    let container = self.containers.get_mut(&dir);
                    let newer = container.into_iter().flat_map(|container| &mut container.logs[at..]);
                    newer.for_each(FollowedLog::expect_news);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns the number of a container's logs that a sweep reads. These are its oldest ones.
    fn logs_of(&self, dir: &ContainerDir, extent: SweepExtent) -> usize {
        let is_refused = self.refused.contains_key(&dir.pod.namespace);
        let Some(container) = self.containers.get(dir).filter(|_| !is_refused) else { return 0 };
        let is_departed = |log: &FollowedLog| matches!(log.phase, Phase::Departed { .. });
        match extent {
            SweepExtent::Departed => container.logs.iter().rposition(is_departed).map_or(0, |at| at + 1),
            SweepExtent::Grown | SweepExtent::Last => container.logs.len(),
        }
    }

    /// Measures the logs of a container, the newest first. While the runtime still writes to a rotated log,
    /// the next one exists already. In this order, every line that is older than a measured one is measured,
    /// too.
    fn ends_of(&mut self, dir: &ContainerDir, extent: SweepExtent) -> Result<Vec<Option<u64>>, ArchiveError> {
        let logs = self.logs_of(dir, extent);
        let (mut ends, mut is_newer_read) = (Vec::with_capacity(logs), false);
        for at in (0..logs).rev() {
            if is_newer_read {
                // The kernel's report of this write may not be read yet.
                self.log(dir, at).map(FollowedLog::wake_if_grown);
            }
            let end = self.end_of(dir, at, extent)?;
            is_newer_read |= end.is_some();
            ends.push(end);
        }
        ends.reverse();
        Ok(ends)
    }

    fn log(&mut self, dir: &ContainerDir, at: usize) -> Option<&mut FollowedLog> {
        self.containers.get_mut(dir)?.logs.get_mut(at)
    }

    /// Reads a log up to a measured end, or as much as one sweep reads.
    fn read_log(
        &mut self,
        dir: &ContainerDir,
        at: usize,
        end: u64,
        extent: SweepExtent,
        lines: &mut Vec<u8>,
    ) -> Result<LogRest, ArchiveError> {
        let mut read_bytes = 0;
        while read_bytes < LOG_BYTES_EACH_SWEEP {
            if self.abort.load(Ordering::Relaxed) {
                return Err(ArchiveError::Aborted);
            }
            let Some(log) = self.log(dir, at) else { return Ok(LogRest::Read) };
            let ends = matches!(log.phase, Phase::Departed { quiet_since }
                if extent == SweepExtent::Last || quiet_since.elapsed() >= DEPARTED_QUIET);
            if let Err(error) = log.read_lines(end, ends, lines) {
                tracing::warn!(event = "container_log_unreadable", container = %dir, log = %log.name, %error, "a log cannot be read further");
                // Another attempt follows while a deleted log may still grow.
                if ends || log.phase == Phase::Packed {
                    log.cut_short();
                }
                return Ok(LogRest::Read);
            }
            read_bytes += lines.len() as u64;
            if log.skip_archived(lines) {
                continue;
            }
            if lines.is_empty() {
                if ends && log.is_as_seen() {
                    log.phase = Phase::Ended;
                }
                return Ok(LogRest::Read);
            }
            if let Phase::Departed { quiet_since } = &mut log.phase {
                *quiet_since = Instant::now();
            }
            let (name, meta, span) = (log.name.clone(), log.meta, cri::span(lines));
            log.note_times(span);
            match self.add(dir, &name, meta, span, lines) {
                Err(ArchiveError::NamespaceRefused { .. }) => {
                    // The batch has no lines of this log.
                    self.log(dir, at).map(FollowedLog::roll_back);
                    return Ok(LogRest::Read);
                }
                added => added?,
            }
        }
        Ok(LogRest::Unread)
    }

    /// Returns the end up to which this sweep reads a log; `None` if it does not read the log.
    fn end_of(
        &mut self,
        dir: &ContainerDir,
        at: usize,
        extent: SweepExtent,
    ) -> Result<Option<u64>, ArchiveError> {
        let reads_quiet = extent == SweepExtent::Last || self.sight == Sight::Blind;
        let hole_bytes_max = self.config.hole_bytes_max;
        let Some(log) = self.log(dir, at) else { return Ok(None) };
        if log.phase == Phase::Ended || log.phase == Phase::Quiet && !reads_quiet {
            return Ok(None);
        }
        if log.phase == Phase::Packed {
            // The number of its lines is unknown.
            return Ok(Some(u64::MAX));
        }
        let look =
            log.look().map_err(|error| ArchiveError::doing(format!("look at a log of {dir}"))(error))?;
        if look.stamp.size > look.allocated.saturating_add(hole_bytes_max) {
            // Reading such a log would return zeros for hours.
            log.note_size(look.stamp.size);
            if matches!(log.phase, Phase::Departed { .. }) {
                log.cut_short();
            }
            if !std::mem::replace(&mut log.is_sparse, true) {
                tracing::warn!(event = "sparse_container_log_skipped", container = %dir, log = %log.name, "a log has larger holes than --max-holes, and is not archived");
                self.metrics.skipped_names.inc();
            }
            return Ok(None);
        }
        let (end, is_truncated) = log.measure(&look);
        if is_truncated {
            self.metrics.truncated_logs.inc();
        }
        Ok(Some(end))
    }

    /// Adds lines to the archives. At intervals, also reads the kernel's reports or commits.
    fn add(
        &mut self,
        dir: &ContainerDir,
        name: &LogName,
        meta: Meta,
        span: Span,
        lines: &[u8],
    ) -> Result<(), ArchiveError> {
        let last_s = span.and_then(|(_, last)| u64::try_from(last.as_second()).ok());
        let meta = Meta { mtime_s: last_s.unwrap_or(meta.mtime_s), ..meta };
        let added = self.store.add(dir, name, meta, span, lines);
        self.note_refused(&added);
        added?;
        let namespace = &dir.pod.namespace;
        match self.uncommitted.get_mut(namespace) {
            Some(bytes) => *bytes += lines.len() as u64,
            None => drop(self.uncommitted.insert(namespace.clone(), lines.len() as u64)),
        }
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
        let known = self.containers.iter().map(|(dir, container)| {
            let mut cursors = container.cursors();
            if self.config.is_own(dir) {
                // This daemon writes to its own log after its last look, while it stops. That is not a loss
                // to report.
                cursors.logs.iter_mut().for_each(|cursor| cursor.is_whole = true);
            }
            (dir.to_string(), cursors)
        });
        known.chain(self.past.iter().map(|(dir, cursors)| (dir.clone(), cursors.clone()))).collect()
    }

    /// Commits, and drops the logs and containers that have ended.
    fn commit(&mut self) -> Result<(), ArchiveError> {
        self.commit_in_between()?;
        for (dir, container) in &self.containers {
            let lost = container.logs.iter().filter(|log| log.is_cut_short).count() as u64;
            if lost > 0 {
                self.metrics.lost(dir.to_string(), lost);
            }
        }
        let mut has_closed = false;
        self.containers.retain(|_, container| {
            has_closed |= container.drop_ended();
            !container.is_over()
        });
        if has_closed {
            self.retries.hasten(Instant::now());
        }
        Ok(())
    }

    fn note_refused(&mut self, result: &Result<(), ArchiveError>) {
        if let Err(ArchiveError::NamespaceRefused { namespace, why }) = result
            && self.refused.insert(namespace.clone(), why.clone()).is_none()
        {
            self.metrics.failures.inc();
        }
    }

    /// Logs the namespaces that are newly refused in this sweep.
    fn tell_refused(&self, before: &BTreeMap<String, String>) {
        for (namespace, why) in self.refused.iter().filter(|(namespace, _)| !before.contains_key(*namespace))
        {
            tracing::error!(
                event = "namespace_refused",
                namespace,
                error = why,
                "the logs of a namespace cannot be archived; it is tried again"
            );
        }
        self.metrics.refused_namespaces.set(i64::try_from(self.refused.len()).unwrap_or(i64::MAX));
    }

    fn commit_in_between(&mut self) -> Result<(), ArchiveError> {
        let logs = || self.containers.values().flat_map(|container| &container.logs);
        if !self.is_checkpoint_old && !logs().any(|log| log.has_news() || log.phase == Phase::Ended) {
            // The lines of an earlier commit may still be hidden.
            return self.show();
        }
        self.store.commit(self.cursors())?;
        // The lines are in the archives now, and must not be read again if a later step fails.
        for log in self.containers.values_mut().flat_map(|container| &mut container.logs) {
            log.commit();
        }
        self.is_checkpoint_old = true;
        self.show()?;
        self.is_checkpoint_old = false;
        let Evictions { evicted, result } = self.store.tidy();
        self.tell_evicted(&evicted);
        if let Err(error) = result {
            let error = error.one_line();
            tracing::warn!(
                event = "archive_tidying_failed",
                error,
                "cannot close or remove archives of container logs; it is tried again after the next commit"
            );
        }
        let metrics = &self.metrics;
        for (namespace, bytes) in std::mem::take(&mut self.uncommitted) {
            metrics.read_bytes.inc_by(bytes);
            metrics.overview.count(&namespace, bytes);
        }
        metrics.commits.inc();
        metrics.packed_bytes.inc_by(std::mem::take(&mut self.store.packed_bytes));
        metrics.kept_bytes.set(i64::try_from(self.store.kept_bytes()).unwrap_or(i64::MAX));
        metrics.committed_timestamp_seconds.set(Timestamp::now().as_second());
        Ok(())
    }

    /// Shows the lines of the last commit to readers. A namespace for which this fails is refused, and is
    /// retried.
    fn show(&mut self) -> Result<(), ArchiveError> {
        let shown = self.store.show();
        self.note_refused(&shown);
        match shown {
            Err(ArchiveError::NamespaceRefused { .. }) => Ok(()),
            shown => shown,
        }
    }

    fn tell_evicted(&self, evicted: &[Evicted]) {
        for Evicted { namespace, bytes, is_within_share } in evicted {
            self.metrics.evicted(namespace, *bytes);
            if *is_within_share {
                self.metrics.evicted_within_share_bytes.inc_by(*bytes);
            }
        }
    }

    fn roll_back(&mut self) -> Result<(), ArchiveError> {
        self.uncommitted.clear();
        for log in self.containers.values_mut().flat_map(|container| &mut container.logs) {
            log.roll_back();
        }
        self.store.roll_back()
    }

    /// Ends a sweep. Logs that did not grow become quiet, and a sweep is scheduled for the others.
    fn rest(&mut self, extent: SweepExtent) {
        let is_whole = extent != SweepExtent::Departed;
        if self.refused.is_empty() && (is_whole || self.due.is_none()) {
            self.metrics.waiting_since_timestamp_seconds.set(0);
        }
        self.metrics.overview.swept(self.store.usages());
        let mut next = None::<Duration>;
        let mut within = |time: Duration| next = Some(next.map_or(time, |next| next.min(time)));
        let (mut logs, mut departed) = (0, 0);
        let mut unwatched = None;
        for (dir, container) in &mut self.containers {
            for log in &mut container.logs {
                logs += 1;
                match log.phase {
                    // The lines of this log were not read.
                    Phase::Growing if self.refused.contains_key(&dir.pod.namespace) => {}
                    Phase::Growing if is_whole && log.is_swept_without_news() => {
                        match self.watches.log(log.file(), Watched::Log(dir.clone(), log.inode)) {
                            // A write before the watch began is not reported, so the size is compared.
                            Ok(()) if log.is_as_seen() => log.phase = Phase::Quiet,
                            Ok(()) => within(self.config.within),
                            Err(error) => {
                                unwatched = Some(error);
                                within(self.config.within);
                            }
                        }
                    }
                    Phase::Growing => within(self.config.within),
                    Phase::Departed { .. } => departed += 1,
                    Phase::Packed => within(RETRY),
                    Phase::Quiet | Phase::Ended => {}
                }
            }
        }
        if let Some(error) = unwatched {
            self.note_blind(Err(error));
        }
        match self.sight {
            Sight::Full => {}
            Sight::Blind => within(self.config.within),
            Sight::Recovering => self.sight = Sight::Full,
        }
        if !self.refused.is_empty() {
            within(RETRY);
        }
        if let Some(within) = next {
            self.due_within(within);
        }
        if departed > 0 {
            self.departed_due_within(DEPARTED_QUIET);
        }
        match extent {
            _ if !self.has_more => {}
            SweepExtent::Departed => self.departed_due_within(Duration::ZERO),
            SweepExtent::Grown | SweepExtent::Last => self.due_within(Duration::ZERO),
        }
        self.metrics.logs.set(logs);
        self.metrics.departed_logs.set(departed);
    }
}
