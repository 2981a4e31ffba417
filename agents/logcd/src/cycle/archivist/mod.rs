//! The cycle: look, compare, and, where there is news enough, make and publish a new archive.

mod making;
mod tidying;

use crate::archive::entry::{Origin, Stamp};
use crate::archive::index::Identity;
use crate::config::Config;
use crate::cycle::comparison::{Comparison, compare};
use crate::cycle::held::Held;
use crate::cycle::plan::{Item, Plan};
use crate::cycle::scrub::{self, Budget, Scrub};
use crate::day::{archive_name, index_name};
use crate::logs::directories::{Directories, Roots};
use crate::logs::open_logs::OpenLogs;
use crate::logs::removal::put_back;
use crate::logs::scan::{Scan, Skip, Unmatched, scan};
use crate::logs::source::Source;
use crate::outdir::OutDir;
use crate::trouble::Trouble;
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Keeps the logs of some directories in one archive a day.
pub struct Archivist {
    config: Config,
    directories: Directories,
    open: OpenLogs,
    out: OutDir,
    held: Option<Held>,
    /// Counts the archives, so that each takes another sample.
    round: u64,
    scrub: Scrub,
    /// The archive that was last read back in full.
    verified: Option<Identity>,
    /// No log may have been left half deleted.
    is_tidy: bool,
    abort: Arc<AtomicBool>,
    progress: Box<dyn Fn(u64, u64) + Send>,
}

/// How eager a cycle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// News may wait until there is enough of it for an archive.
    WhenWorthIt,
    /// Whatever is new is published.
    Now,
    /// As `Now`, after everything that is kept was compared with the logs.
    Thorough,
}

/// What a cycle did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub files: usize,
    /// Some of the files passed over, by name, and how many there are.
    pub skipped: BTreeMap<Vec<u8>, Skip>,
    pub skip_counts: BTreeMap<Skip, u64>,
    /// Directories in which no name matches.
    pub unmatched: Vec<Unmatched>,
    /// Why directories that were there before could not be looked at.
    pub away: Vec<String>,
    /// What is new and waits, as far as it can be told.
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

impl Outcome {
    /// In a word, as metrics and the page have it.
    pub fn result(&self) -> &'static str {
        match (&self.published, self.waiting) {
            (Some(_), _) => "published",
            (None, Some(_)) => "waiting",
            (None, None) => "unchanged",
        }
    }
}

impl Archivist {
    pub fn new(config: Config, out: OutDir, abort: Arc<AtomicBool>) -> Archivist {
        Archivist {
            directories: Directories::new(config.dirs.clone()),
            open: OpenLogs::default(),
            config,
            out,
            held: None,
            // Not always the same, for programs that are often started.
            round: u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
            scrub: Scrub::default(),
            verified: None,
            is_tidy: false,
            abort,
            progress: Box::new(|_, _| {}),
        }
    }

    /// From now on tells how many bytes are compressed, and out of about how many.
    pub fn on_progress(&mut self, tell: impl Fn(u64, u64) + Send + 'static) {
        self.progress = Box::new(tell);
    }

    /// Takes up new settings; the directories stay.
    pub fn configure(&mut self, config: Config) {
        if config.packing.codec != self.config.packing.codec {
            // Blocks of the other kind are of no use; today's archive is taken over in the next cycle.
            self.held = None;
        }
        self.config = config;
    }

    /// One look, and an archive if there is reason for one. Whatever fails, the archive that was there is
    /// there still.
    pub fn cycle(&mut self, now: Timestamp, haste: Haste) -> Result<Outcome, Trouble> {
        let today = self.config.calendar.day(now);
        let result = self.settle().and_then(|()| self.days(now, today, haste));
        if let Err(error) = &result {
            self.clean_up(error, today);
        }
        result
    }

    /// Takes the directory for archives again if another one is in its place, or its lock is gone.
    fn settle(&mut self) -> Result<(), Trouble> {
        let Err(error) = self.out.check_place() else { return Ok(()) };
        let out = OutDir::take(&self.config.out, self.config.publishing.mode)?;
        tracing::warn!(%error, "going on in the directory that is there now");
        (self.out, self.held, self.verified) = (out, None, None);
        Ok(())
    }

    /// Where the directories and the lock are now, to notice when they are moved: device and inode of each that is there.
    pub fn places(&self) -> Vec<Option<(u64, u64)>> {
        let dirs = self.config.dirs.iter().map(|dir| dir.path.clone());
        let paths = dirs.chain([self.config.out.clone(), self.out.lock_path()]);
        let id = |path: PathBuf| {
            path.metadata().ok().filter(|look| look.nlink() > 0).map(|look| (look.dev(), look.ino()))
        };
        paths.map(id).collect()
    }

    fn days(&mut self, now: Timestamp, today: Date, haste: Haste) -> Result<Outcome, Trouble> {
        if !self.is_tidy {
            put_back(&self.directories.open()?, self.config.select.recursive)?;
            self.is_tidy = true;
        }
        if self.held.is_none() {
            self.held = self.load(today)?;
        } else if let Some(finished) = self.held.as_ref().map(|held| held.day).filter(|day| *day < today) {
            tracing::info!(day = %finished, "the day is over: its archive gets a last cycle and stays");
            self.day(now, finished, Haste::Thorough)?;
        }
        if self.held.as_ref().is_some_and(|held| held.day != today)
            && self.out.open(&self.archive_name(today))?.is_some()
        {
            // The clock was set back, or somebody put one there: what it holds must stay.
            self.held = self.load(today)?;
        }
        let mut outcome = self.day(now, today, haste)?;
        outcome.removed_archives += self.retire(today)?;
        if let Some(after) = self.config.remove_after {
            outcome.removed_sources = self.remove_sources(now, after)?;
        }
        Ok(outcome)
    }

    /// The newest archive up to today. An older one is only a source of blocks: its day is over.
    fn load(&self, today: Date) -> Result<Option<Held>, Trouble> {
        let codec = self.config.packing.codec;
        let mut days: Vec<Date> = Vec::new();
        days.extend(self.out.archives()?.iter().filter(|(_, kind, _)| *kind == codec).map(|(day, ..)| day));
        match days.iter().rev().find(|day| **day <= today) {
            Some(day) => Held::load(&self.out, *day, codec),
            None => Ok(None),
        }
    }

    /// Brings the archive of one day up to date.
    fn day(&mut self, now: Timestamp, day: Date, haste: Haste) -> Result<Outcome, Trouble> {
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
        if !first && haste == Haste::WhenWorthIt && !self.is_worth_it(news) {
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

    /// Closes the logs that are not there any more, once their ends are in the archive.
    fn close_lost(&mut self, plan: &Plan) {
        self.open.keep(&plan.live().map(|found| (found.stamp.dev, found.stamp.ino)).collect());
    }

    /// Looks, and compares what may have changed without a trace.
    fn plan(&mut self, roots: &Roots, haste: Haste) -> Result<(Plan, Outcome), Trouble> {
        let entries = self.held.as_ref().map_or(&[][..], Held::entries);
        let known: HashSet<_> = entries.iter().filter_map(|e| e.stamp().map(|s| (s.dev, s.ino))).collect();
        let is_known = |stamp: &Stamp| known.contains(&(stamp.dev, stamp.ino));
        let Scan { files, skipped, counts, unmatched } =
            scan(roots, &self.config.select, &self.config.limits, &is_known)?;
        let outcome = Outcome {
            files: files.len(),
            skipped,
            skip_counts: counts,
            unmatched,
            away: roots.complaints(),
            ..Outcome::default()
        };
        let mut plan = Plan::new(files, entries, &|name| roots.is_away(name));
        if let Some(held) = &mut self.held {
            refresh(held, &mut plan, roots, &self.config);
            let budget = match haste {
                Haste::Thorough => Budget::Unlimited,
                Haste::WhenWorthIt | Haste::Now => Budget::Bytes(self.config.limits.compare_bytes),
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

    /// How much there is to publish; nothing to do at all where there is no answer.
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

    /// The archive whose blocks are kept, if there is one. An archive of this day that is not known, or of
    /// the other kind, is taken over first: nothing that it holds may be lost.
    fn base(&mut self, roots: &Roots, day: Date) -> Result<Option<File>, Trouble> {
        let base = self.own_base(roots, day)?;
        let other = archive_name(day, self.config.packing.codec.other());
        let Some((theirs, _)) = self.out.open(&other)? else { return Ok(base) };
        self.held = Some(self.adopt(roots, base.as_ref(), (&other, &theirs), day)?);
        // Only now: all that it held is published under the new name.
        self.out.remove(&other)?;
        self.out.remove(&index_name(&other))?;
        self.open_base()
    }

    fn open_base(&mut self) -> Result<Option<File>, Trouble> {
        match &mut self.held {
            Some(held) => held.open_base(&self.out),
            None => Ok(None),
        }
    }

    fn own_base(&mut self, roots: &Roots, day: Date) -> Result<Option<File>, Trouble> {
        if let Some(held) = &mut self.held {
            if let Some(base) = held.open_base(&self.out)? {
                return Ok(Some(base));
            }
            let archive = self.out.path_of(&held.archive_name());
            tracing::warn!(archive, "the archive was removed or changed by somebody else");
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

/// What an archive is made of, when, and for which day.
struct Site<'a> {
    roots: &'a Roots,
    base: Option<&'a File>,
    now: Timestamp,
    day: Date,
}

impl Outcome {
    fn measure(&mut self, held: Option<&Held>) {
        let identity = held.map(|held| held.index.identity).unwrap_or_default();
        (self.archive_bytes, self.content_bytes) = (identity.size, identity.sum.len);
    }
}

/// Files that were only touched are read once and are known again, so that a new time alone makes no news.
fn refresh(held: &mut Held, plan: &mut Plan, roots: &Roots, config: &Config) {
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
