//! Runs cycles: surveys the logs and, if there is enough news, makes and publishes a new archive.

mod publishing;
mod takeover;
mod tidying;

use crate::archive::entry::Entry;
use crate::archive::index::ArchiveIdentity;
use crate::archive_dir::LockedArchiveDir;
use crate::config::Config;
use crate::cycle::base::Base;
use crate::cycle::changes::Changes;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::cycle::report::CycleReport;
use crate::cycle::scrub::{Scrub, ScrubBudget};
use crate::cycle::survey::survey;
use crate::day::archive_name;
use crate::error::ArchiveError;
use crate::logs::directories::{Directories, Roots};
use crate::logs::open_logs::OpenLogs;
use crate::logs::removal::put_back;
use jiff::Timestamp;
use jiff::civil::Date;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Limit on the searches for a cycle's base. An archive of each kind may have to be taken over first.
const BASE_SEARCHES_MAX: u32 = 4;

/// Keeps the logs of some directories in one archive a day. Owns the state between cycles.
pub struct Archiver {
    config: Config,
    directories: Directories,
    open_logs: OpenLogs,
    dir: LockedArchiveDir,
    /// The newest archive with its index; `None` until it is loaded, or if there is none that fits.
    current: Option<IndexedArchive>,
    /// A number that differs for each archive, so that each one compares another sample of blocks.
    round: u64,
    scrub: Scrub,
    /// The archive that was last read back in full.
    verified: Option<ArchiveIdentity>,
    /// True if no log can be left half deleted.
    is_tidy: bool,
    abort: Arc<AtomicBool>,
    progress: Box<dyn Fn(u64, u64) + Send>,
}

/// The urgency of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CycleMode {
    /// News may wait until there is enough of it for an archive.
    WhenWorthIt,
    /// All news is published.
    Now,
    /// Like `Now`, after everything that is kept has been compared with the logs.
    Thorough,
}

impl Archiver {
    pub fn new(config: Config, dir: LockedArchiveDir, abort: Arc<AtomicBool>) -> Archiver {
        Archiver {
            directories: Directories::new(config.dirs.clone()),
            open_logs: OpenLogs::default(),
            config,
            dir,
            current: None,
            // Differs between starts, so that a daemon that is often restarted samples other blocks.
            round: u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
            scrub: Scrub::default(),
            verified: None,
            is_tidy: false,
            abort,
            progress: Box::new(|_, _| {}),
        }
    }

    /// Calls `report` with the number of compressed bytes and an estimate of their total.
    pub fn on_progress(&mut self, report: impl Fn(u64, u64) + Send + 'static) {
        self.progress = Box::new(report);
    }

    /// Applies new settings; the directories stay.
    pub fn configure(&mut self, config: Config) {
        if config.packing.codec != self.config.packing.codec {
            // Blocks of the other kind cannot be used; the next cycle converts today's archive.
            self.current = None;
        }
        self.config = config;
    }

    /// Runs one cycle: looks at the logs, and makes an archive if needed. After any error the previous
    /// archive is still in place.
    pub fn cycle(&mut self, now: Timestamp, mode: CycleMode) -> Result<CycleReport, ArchiveError> {
        let today = self.config.calendar.day(now);
        let result = self.reopen_if_moved().and_then(|()| self.days(now, today, mode));
        if let Err(error) = &result {
            self.clean_up(error, today);
        }
        result
    }

    /// Opens the directory for archives again if another one is in its place, or if the lock is gone.
    fn reopen_if_moved(&mut self) -> Result<(), ArchiveError> {
        let Err(error) = self.dir.check_place() else { return Ok(()) };
        let dir = LockedArchiveDir::take(&self.config.out, self.config.publishing.mode)?;
        tracing::warn!(event = "directory_replaced", %error, "continuing in the directory now at the path");
        (self.dir, self.current, self.verified) = (dir, None, None);
        Ok(())
    }

    /// Returns the device and inode of each directory and of the lock, if it exists: they change when one is
    /// moved or replaced.
    pub fn directory_ids(&self) -> Vec<Option<(u64, u64)>> {
        let dirs = self.config.dirs.iter().map(|dir| dir.path.clone());
        let paths = dirs.chain([self.config.out.clone(), self.dir.lock_path()]);
        let id = |path: PathBuf| {
            path.metadata().ok().filter(|found| found.nlink() > 0).map(|found| (found.dev(), found.ino()))
        };
        paths.map(id).collect()
    }

    fn days(&mut self, now: Timestamp, today: Date, mode: CycleMode) -> Result<CycleReport, ArchiveError> {
        if !self.is_tidy {
            put_back(&self.directories.open()?, self.config.select.recursive)?;
            self.is_tidy = true;
        }
        let known = self.current.as_ref().map(|archive| archive.day);
        if let Some(finished) = known.filter(|day| *day < today) {
            tracing::info!(
                event = "day_ended",
                day = %finished,
                "the day is over: updating its archive for the last time"
            );
            self.day(now, finished, CycleMode::Thorough)?;
        }
        // Today's archive may already exist: after a restart, after the clock was set back, or because
        // another process put it there. The new archive must keep its content.
        let is_unknown = match &self.current {
            None => true,
            Some(archive) => archive.day != today && self.dir.open(&self.archive_name(today))?.is_some(),
        };
        if is_unknown {
            self.current = self.load(today)?;
        }
        let mut report = self.day(now, today, mode)?;
        report.removed_archives += self.retire(today)?;
        if let Some(after) = self.config.remove_after {
            report.removed_sources = self.remove_sources(now, after)?;
        }
        Ok(report)
    }

    /// Loads the newest archive up to today. An older one only provides blocks, because its day is over.
    fn load(&self, today: Date) -> Result<Option<IndexedArchive>, ArchiveError> {
        let codec = self.config.packing.codec;
        let archives = self.dir.archives()?;
        let newest = archives.iter().rev().find(|(day, kind, _)| *kind == codec && *day <= today);
        newest.map_or(Ok(None), |(day, ..)| IndexedArchive::load(&self.dir, *day, codec))
    }

    /// Brings the archive of one day up to date.
    fn day(&mut self, now: Timestamp, day: Date, mode: CycleMode) -> Result<CycleReport, ArchiveError> {
        let roots = self.directories.open()?;
        if let Some(current) = &mut self.current {
            current.name_below(&self.config.prefix);
        }
        let mut base = self.base(&roots, day)?;
        let (mut changes, mut report) = self.survey(&roots, mode)?;
        self.open_logs.open(changes.files(), &roots);
        let is_first = self.current.as_ref().is_none_or(|current| current.day != day);
        let Some(news) = changes.news_bytes().or(is_first.then_some(0)) else {
            self.close_lost(&changes);
            report.measure(self.current.as_ref());
            return Ok(report);
        };
        if !is_first && mode == CycleMode::WhenWorthIt && !self.is_worth_it(news) {
            report.waiting = Some(news);
            report.measure(self.current.as_ref());
            return Ok(report);
        }
        self.round = self.round.wrapping_add(1);
        if let (Some(current), Some(file)) = (&self.current, &base)
            && let Err(error) = current.check_share(file, self.round)
        {
            tracing::error!(event = "index_rejected", %error, "reading the archive instead of the index");
            self.current = None;
            base = self.base(&roots, day)?;
            (changes, report) = self.survey(&roots, mode)?;
        }
        report.removed_archives += self.make_room(self.expected_bytes(news), day)?;
        let published = self.publish(&roots, base.as_ref(), (now, day), &changes, news, &mut report)?;
        self.close_lost(&changes);
        report.published = Some(published);
        report.measure(self.current.as_ref());
        Ok(report)
    }

    /// Opens the archive whose blocks are kept, if there is one. Takes over foreign archives first.
    fn base(&mut self, roots: &Roots, day: Date) -> Result<Option<File>, ArchiveError> {
        for _ in 0..BASE_SEARCHES_MAX {
            match Base::find(&self.dir, &mut self.current, day, self.config.packing.codec)? {
                Base::None => return Ok(None),
                Base::Ours(file) => return Ok(Some(file)),
                Base::Foreign(foreign) => self.take_over(roots, &foreign, day)?,
            }
        }
        Err(ArchiveError::ArchiveChanged(self.dir.path_of(&self.archive_name(day))))
    }

    fn survey(&mut self, roots: &Roots, mode: CycleMode) -> Result<(Changes, CycleReport), ArchiveError> {
        let budget = match mode {
            CycleMode::Thorough => ScrubBudget::Unlimited,
            CycleMode::WhenWorthIt | CycleMode::Now => ScrubBudget::Bytes(self.config.limits.compare_bytes),
        };
        let entries: &mut [Entry] = match &mut self.current {
            Some(current) => &mut current.index.entries,
            None => &mut [],
        };
        survey(roots, &self.config, entries, &mut self.scrub, budget)
    }

    /// Closes the logs that no longer exist, once their ends are in the archive.
    fn close_lost(&mut self, changes: &Changes) {
        self.open_logs.keep(&changes.files().map(|file| file.stamp.id()).collect());
    }

    fn is_worth_it(&self, news: u64) -> bool {
        let archived = self.current.as_ref().map_or(0, |current| current.index.identity.sum.len);
        news.saturating_mul(100) >= archived.saturating_mul(self.config.publishing.percent)
    }

    fn archive_name(&self, day: Date) -> String {
        archive_name(day, self.config.packing.codec)
    }
}
