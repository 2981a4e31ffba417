//! One sweep: reads the logs that may have grown, commits their lines to the archives, and schedules the next
//! sweep.

use super::{Sight, Tailer};
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
/// The archived bytes after which a long sweep reads the kernel's reports again.
const REPORTS_EVERY_BYTES: u64 = 4 << 20;

impl Tailer {
    /// Reads all logs that may have grown, and commits their lines. The last sweep also ends deleted logs at
    /// once.
    pub(super) fn sweep(&mut self, is_last: bool) -> Result<(), ArchiveError> {
        self.due = None;
        self.swept = Instant::now();
        let looked = self.look_again();
        if !is_last {
            looked?;
        }
        self.store.complete_roll_back()?;
        let refused_before = std::mem::take(&mut self.refused);
        let mut read = self.read_and_commit(is_last);
        // Each further attempt follows the removal of an archive, so there is an end to them.
        while let Err(ArchiveError::DiskFull { needed, .. }) = read
            && self.make_room(needed)?
        {
            read = self.read_and_commit(is_last);
        }
        self.tell_refused(&refused_before);
        if let Err(error) = read {
            self.give_up_deleted_logs();
            return Err(error);
        }
        if !self.refused.is_empty() {
            self.give_up_deleted_logs();
        }
        self.store.begin_hour(self.config.hour())?;
        self.rest();
        Ok(())
    }

    /// Reads all logs that may have grown, and commits their lines. Rolls back after an error.
    fn read_and_commit(&mut self, is_last: bool) -> Result<(), ArchiveError> {
        let read = self.read_all(is_last).and_then(|()| self.commit());
        if read.is_err() {
            self.metrics.failures.inc();
            self.roll_back()?;
        }
        read
    }

    /// Removes old archives because the disk is full. Returns true if there were any.
    fn make_room(&mut self, needed_bytes: u64) -> Result<bool, ArchiveError> {
        let Evictions { evicted, result } = self.store.make_room(needed_bytes)?;
        self.tell_evicted(&evicted);
        result.map(|()| !evicted.is_empty())
    }

    fn read_all(&mut self, is_last: bool) -> Result<(), ArchiveError> {
        let mut lines = Vec::new();
        self.containers.values_mut().for_each(FollowedContainer::sort);
        for dir in self.containers.keys().cloned().collect::<Vec<_>>() {
            // No log is removed from a container before the next commit.
            for (at, end) in self.ends_of(&dir, is_last)?.into_iter().enumerate() {
                if self.refused.contains_key(&dir.pod.namespace) {
                    break;
                }
                if let Some(end) = end {
                    self.read_log(&dir, at, end, is_last, &mut lines)?;
                }
            }
        }
        Ok(())
    }

    /// Measures the logs of a container, the newest first. The runtime may still write to a rotated log when
    /// the next log exists already. Lines older than a measured line are then within the ends, too.
    fn ends_of(&mut self, dir: &ContainerDir, is_last: bool) -> Result<Vec<Option<u64>>, ArchiveError> {
        let logs = match self.refused.contains_key(&dir.pod.namespace) {
            true => 0,
            false => self.containers.get(dir).map_or(0, |container| container.logs.len()),
        };
        let (mut ends, mut is_newer_read) = (Vec::with_capacity(logs), false);
        for at in (0..logs).rev() {
            if is_newer_read {
                // The kernel's report of this write may not be read yet.
                self.log(dir, at).map(FollowedLog::wake_if_grown);
            }
            let end = self.end_of(dir, at, is_last)?;
            is_newer_read |= end.is_some();
            ends.push(end);
        }
        ends.reverse();
        Ok(ends)
    }

    fn log(&mut self, dir: &ContainerDir, at: usize) -> Option<&mut FollowedLog> {
        self.containers.get_mut(dir)?.logs.get_mut(at)
    }

    /// Reads a log up to a measured end.
    fn read_log(
        &mut self,
        dir: &ContainerDir,
        at: usize,
        end: u64,
        is_last: bool,
        lines: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        loop {
            if self.abort.load(Ordering::Relaxed) {
                return Err(ArchiveError::Aborted);
            }
            let Some(log) = self.log(dir, at) else { return Ok(()) };
            let ends = matches!(log.phase, Phase::Departed { quiet_since }
                if is_last || quiet_since.elapsed() >= DEPARTED_QUIET);
            if let Err(error) = log.read_lines(end, ends, lines) {
                tracing::warn!(event = "container_log_unreadable", container = %dir, log = %log.name, %error, "a log cannot be read further");
                // Another attempt follows while a deleted log may still grow.
                if ends || log.phase == Phase::Packed {
                    log.cut_short();
                }
                return Ok(());
            }
            if log.skip_archived(lines) {
                continue;
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
            let (name, meta, span) = (log.name.clone(), log.meta, cri::span(lines));
            log.note_times(span);
            match self.add(dir, &name, meta, span, lines) {
                Err(ArchiveError::NamespaceRefused { .. }) => {
                    // The batch has no lines of this log.
                    self.log(dir, at).map(FollowedLog::roll_back);
                    return Ok(());
                }
                added => added?,
            }
        }
    }

    /// Returns the end up to which this sweep reads a log; `None` if it does not read the log.
    fn end_of(&mut self, dir: &ContainerDir, at: usize, is_last: bool) -> Result<Option<u64>, ArchiveError> {
        let reads_quiet = is_last || self.sight == Sight::Blind;
        let hole_bytes_max = self.config.hole_bytes_max;
        let Some(log) = self.log(dir, at) else { return Ok(None) };
        if log.phase == Phase::Ended || log.phase == Phase::Quiet && !reads_quiet {
            return Ok(None);
        }
        let failed = |error| ArchiveError::doing(format!("look at a log of {dir}"))(error);
        let look = log.look().map_err(failed)?;
        if log.phase != Phase::Packed && look.stamp.size > look.allocated.saturating_add(hole_bytes_max) {
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
        let (end, is_truncated) = log.measure().map_err(failed)?;
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
                self.metrics.lost_logs.inc_by(lost);
                self.metrics.overview.lost(dir.to_string(), lost);
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
    fn rest(&mut self) {
        if self.refused.is_empty() {
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
                    Phase::Growing if log.is_swept_without_news() => {
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
        self.metrics.logs.set(logs);
        self.metrics.departed_logs.set(departed);
    }
}
