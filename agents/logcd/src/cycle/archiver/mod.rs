//! The cycle: look, compare, and, if there is enough news, make and publish a new archive.

mod making;
mod tidying;

use crate::archive::entry::Origin;
use crate::archive::file_stamp::FileStamp;
use crate::archive::index::Identity;
use crate::archive_dir::LockedArchiveDir;
use crate::config::Config;
use crate::cycle::comparison::{Comparison, compare};
use crate::cycle::indexed_archive::IndexedArchive;
use crate::cycle::plan::{Item, Plan};
use crate::cycle::scrub::{self, Budget, Scrub};
use crate::day::{archive_name, index_name};
use crate::error::ArchiveError;
use crate::logs::directories::{Directories, Roots};
use crate::logs::open_logs::OpenLogs;
use crate::logs::removal::put_back;
use crate::logs::scan::{Scan, Skip, Unmatched, scan};
use crate::logs::source::Source;
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Keeps the logs of some directories in one archive a day.
pub struct Archiver {
    config: Config,
    directories: Directories,
    open: OpenLogs,
    out: LockedArchiveDir,
    held: Option<IndexedArchive>,
    /// Counts the archives, so that each takes another sample.
    round: u64,
    scrub: Scrub,
    /// The archive that was last read back in full.
    verified: Option<Identity>,
    /// True if no log can be half deleted.
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

/// The result of a cycle.
#[derive(Clone, Debug, Default)]
pub struct CycleReport {
    pub files: usize,
    /// Some of the skipped files by name.
    pub skipped: BTreeMap<Vec<u8>, Skip>,
    pub skip_counts: BTreeMap<Skip, u64>,
    /// Directories in which no name matches.
    pub unmatched: Vec<Unmatched>,
    /// Reasons why directories that were there before cannot be read.
    pub away: Vec<String>,
    /// Bytes of news that wait, as far as stamps show.
    pub waiting: Option<u64>,
    pub published: Option<Published>,
    pub removed_archives: u64,
    pub removed_sources: u64,
    pub archive_bytes: u64,
    pub content_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    pub compressed: u64,
    pub written: u64,
    pub copied: u64,
    pub superseded: u64,
}

impl CycleReport {
    /// The result in one word, for metrics and the page.
    pub fn result(&self) -> &'static str {
        match (&self.published, self.waiting) {
            (Some(_), _) => "published",
            (None, Some(_)) => "waiting",
            (None, None) => "unchanged",
        }
    }
}

impl Archiver {
    pub fn new(config: Config, out: LockedArchiveDir, abort: Arc<AtomicBool>) -> Archiver {
        Archiver {
            directories: Directories::new(config.dirs.clone()),
            open: OpenLogs::default(),
            config,
            out,
            held: None,
            // Differs between starts, so that a daemon that is often restarted samples other blocks.
            round: u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
            scrub: Scrub::default(),
            verified: None,
            is_tidy: false,
            abort,
            progress: Box::new(|_, _| {}),
        }
    }

    /// Calls `tell` with the number of compressed bytes and an estimate of their total.
    pub fn on_progress(&mut self, tell: impl Fn(u64, u64) + Send + 'static) {
        self.progress = Box::new(tell);
    }

    /// Applies new settings; the directories stay.
    pub fn configure(&mut self, config: Config) {
        if config.packing.codec != self.config.packing.codec {
            // Blocks of the other kind cannot be used; the next cycle converts today's archive.
            self.held = None;
        }
        self.config = config;
    }

    /// Looks once and makes an archive if needed. After any error the previous archive is still in place.
    pub fn cycle(&mut self, now: Timestamp, haste: CycleMode) -> Result<CycleReport, ArchiveError> {
        let today = self.config.calendar.day(now);
        let result = self.settle().and_then(|()| self.days(now, today, haste));
        if let Err(error) = &result {
            self.clean_up(error, today);
        }
        result
    }

    /// Opens the directory for archives again if another one is in its place, or if the lock is gone.
    fn settle(&mut self) -> Result<(), ArchiveError> {
        let Err(error) = self.out.check_place() else { return Ok(()) };
        let out = LockedArchiveDir::take(&self.config.out, self.config.publishing.mode)?;
        tracing::warn!(%error, "going on in the directory that is there now");
        (self.out, self.held, self.verified) = (out, None, None);
        Ok(())
    }

    /// Returns the device and inode of each directory and of the lock, if it exists: they change when one is
    /// moved or replaced.
    pub fn places(&self) -> Vec<Option<(u64, u64)>> {
        let dirs = self.config.dirs.iter().map(|dir| dir.path.clone());
        let paths = dirs.chain([self.config.out.clone(), self.out.lock_path()]);
        let id = |path: PathBuf| {
            path.metadata().ok().filter(|look| look.nlink() > 0).map(|look| (look.dev(), look.ino()))
        };
        paths.map(id).collect()
    }

    fn days(&mut self, now: Timestamp, today: Date, haste: CycleMode) -> Result<CycleReport, ArchiveError> {
        if !self.is_tidy {
            put_back(&self.directories.open()?, self.config.select.recursive)?;
            self.is_tidy = true;
        }
        if self.held.is_none() {
            self.held = self.load(today)?;
        } else if let Some(finished) = self.held.as_ref().map(|held| held.day).filter(|day| *day < today) {
            tracing::info!(day = %finished, "the day is over: its archive gets a last cycle and stays");
            self.day(now, finished, CycleMode::Thorough)?;
        }
        if self.held.as_ref().is_some_and(|held| held.day != today)
            && self.out.open(&self.archive_name(today))?.is_some()
        {
            // The clock was set back, or another process put an archive there: its content must stay.
            self.held = self.load(today)?;
        }
        let mut outcome = self.day(now, today, haste)?;
        outcome.removed_archives += self.retire(today)?;
        if let Some(after) = self.config.remove_after {
            outcome.removed_sources = self.remove_sources(now, after)?;
        }
        Ok(outcome)
    }

    /// Loads the newest archive up to today. An older one only provides blocks, because its day is over.
    fn load(&self, today: Date) -> Result<Option<IndexedArchive>, ArchiveError> {
        let codec = self.config.packing.codec;
        let mut days: Vec<Date> = Vec::new();
        days.extend(self.out.archives()?.iter().filter(|(_, kind, _)| *kind == codec).map(|(day, ..)| day));
        match days.iter().rev().find(|day| **day <= today) {
            Some(day) => IndexedArchive::load(&self.out, *day, codec),
            None => Ok(None),
        }
    }

    /// Brings the archive of one day up to date.
    fn day(&mut self, now: Timestamp, day: Date, haste: CycleMode) -> Result<CycleReport, ArchiveError> {
        let roots = self.directories.open()?;
        if let Some(held) = &mut self.held {
            held.name_below(&self.config.prefix);
        }
        let mut base = self.base(&roots, day)?;
        let (mut plan, mut outcome) = self.plan(&roots, haste)?;
        self.open.open(plan.live(), &roots);
        let Some(news) = self.news(&plan, day) else {
            self.close_lost(&plan);
            outcome.measure(self.held.as_ref());
            return Ok(outcome);
        };
        let first = self.held.as_ref().is_none_or(|held| held.day != day);
        if !first && haste == CycleMode::WhenWorthIt && !self.is_worth_it(news) {
            outcome.waiting = Some(news);
            outcome.measure(self.held.as_ref());
            return Ok(outcome);
        }
        self.round = self.round.wrapping_add(1);
        if let (Some(held), Some(file)) = (&self.held, &base)
            && let Err(error) = held.check_share(file, self.round)
        {
            tracing::error!(%error, "reading the archive instead of the index");
            self.held = None;
            base = self.base(&roots, day)?;
            (plan, outcome) = self.plan(&roots, haste)?;
        }
        outcome.removed_archives += self.make_room(self.expected_bytes(news), day)?;
        let site = Site { roots: &roots, base: base.as_ref(), now, day };
        let (published, held) = self.publish(&site, &plan, news, &mut outcome)?;
        self.held = Some(held);
        self.close_lost(&plan);
        outcome.published = Some(published);
        outcome.measure(self.held.as_ref());
        Ok(outcome)
    }

    /// Closes the logs that no longer exist, once their ends are in the archive.
    fn close_lost(&mut self, plan: &Plan) {
        self.open.keep(&plan.live().map(|found| (found.stamp.dev, found.stamp.ino)).collect());
    }

    /// Looks, and compares files that may have changed without a trace in their stamps.
    fn plan(&mut self, roots: &Roots, haste: CycleMode) -> Result<(Plan, CycleReport), ArchiveError> {
        let entries = self.held.as_ref().map_or(&[][..], IndexedArchive::entries);
        let known: HashSet<_> = entries.iter().filter_map(|e| e.stamp().map(|s| (s.dev, s.ino))).collect();
        let is_known = |stamp: &FileStamp| known.contains(&(stamp.dev, stamp.ino));
        let Scan { files, skipped, counts, unmatched } =
            scan(roots, &self.config.select, &self.config.limits, &is_known)?;
        let outcome = CycleReport {
            files: files.len(),
            skipped,
            skip_counts: counts,
            unmatched,
            away: roots.complaints(),
            ..CycleReport::default()
        };
        let mut plan = Plan::new(files, entries, &|name| roots.is_away(name));
        if let Some(held) = &mut self.held {
            refresh(held, &mut plan, roots, &self.config);
            let budget = match haste {
                CycleMode::Thorough => Budget::Unlimited,
                CycleMode::WhenWorthIt | CycleMode::Now => Budget::Bytes(self.config.limits.compare_bytes),
            };
            let hard_links = self.config.select.hard_links;
            for old in self.scrub.edited(&plan, held.entries(), roots, hard_links, budget) {
                let entry = &mut held.index.entries[old];
                let file = entry.name.escape_ascii().to_string();
                tracing::info!(file, "edited since it was archived: comparing all of it");
                scrub::distrust(entry);
            }
        }
        Ok((plan, outcome))
    }

    /// Returns the bytes to publish, or `None` if there is nothing to do.
    fn news(&self, plan: &Plan, day: Date) -> Option<u64> {
        match &self.held {
            Some(held) if held.day == day => plan.news(held.entries()),
            Some(held) => Some(plan.news(held.entries()).unwrap_or(0)),
            None => Some(plan.news(&[]).unwrap_or(0)),
        }
    }

    fn is_worth_it(&self, news: u64) -> bool {
        let archived = self.held.as_ref().map_or(0, |held| held.index.identity.sum.len);
        news.saturating_mul(100) >= archived.saturating_mul(self.config.publishing.percent)
    }

    /// Opens the archive whose blocks are kept, if there is one. An unknown archive of this day, or one of
    /// the other kind, is rewritten first, so that nothing in it is lost.
    fn base(&mut self, roots: &Roots, day: Date) -> Result<Option<File>, ArchiveError> {
        let base = self.own_base(roots, day)?;
        let other = archive_name(day, self.config.packing.codec.other());
        let Some((theirs, _)) = self.out.open(&other)? else { return Ok(base) };
        self.held = Some(self.adopt(roots, base.as_ref(), (&other, &theirs), day)?);
        // Only now, after its content is published under the new name.
        self.out.remove(&other)?;
        self.out.remove(&index_name(&other))?;
        self.open_base()
    }

    fn open_base(&mut self) -> Result<Option<File>, ArchiveError> {
        match &mut self.held {
            Some(held) => held.open_base(&self.out),
            None => Ok(None),
        }
    }

    fn own_base(&mut self, roots: &Roots, day: Date) -> Result<Option<File>, ArchiveError> {
        if let Some(held) = &mut self.held {
            if let Some(base) = held.open_base(&self.out)? {
                return Ok(Some(base));
            }
            let archive = self.out.path_of(&held.archive_name());
            tracing::warn!(archive, "the archive was removed or changed by another process");
            self.held = None;
        }
        let name = self.archive_name(day);
        let Some((theirs, _)) = self.out.open(&name)? else { return Ok(None) };
        self.held = Some(self.adopt(roots, None, (&name, &theirs), day)?);
        self.open_base()
    }

    fn archive_name(&self, day: Date) -> String {
        archive_name(day, self.config.packing.codec)
    }
}

/// The inputs of one archive.
struct Site<'a> {
    roots: &'a Roots,
    base: Option<&'a File>,
    now: Timestamp,
    day: Date,
}

impl CycleReport {
    fn measure(&mut self, held: Option<&IndexedArchive>) {
        let identity = held.map(|held| held.index.identity).unwrap_or_default();
        (self.archive_bytes, self.content_bytes) = (identity.size, identity.sum.len);
    }
}

/// Reads files that were only touched and updates their stamps, so that a new time alone is no news.
fn refresh(held: &mut IndexedArchive, plan: &mut Plan, roots: &Roots, config: &Config) {
    let mut buffer = Vec::new();
    for item in &plan.items {
        let Item::Live { found, old: Some(old) } = item else { continue };
        let entry = &mut held.index.entries[*old];
        if compare(entry, &found.stamp) != Comparison::Doubtful || entry.size() != found.stamp.size {
            continue;
        }
        let Ok(source) = Source::open(roots, found, config.select.hard_links) else { continue };
        let same = source.matching(&entry.blocks, &mut buffer).is_ok_and(|n| n == entry.blocks.len());
        if same && source.look.stamp.size == entry.size() {
            entry.origin = Origin::Live(source.look.stamp);
            entry.meta = source.look.meta;
            plan.verified.insert(*old);
        }
    }
}
