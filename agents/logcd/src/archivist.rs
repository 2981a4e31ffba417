//! The cycle: look, compare, and, where there is news enough, make and publish a new archive.

use crate::adopt::adopt;
use crate::assembly::Assembly;
use crate::beneath::{Beneath, look_into};
use crate::codec::Codec;
use crate::config::Config;
use crate::day::{archive_name, draft_name, index_name};
use crate::draft::Draft;
use crate::entry::{Origin, Stamp};
use crate::held::Held;
use crate::index::{Identity, Index};
use crate::outdir::OutDir;
use crate::plan::{Item, Plan};
use crate::removal;
use crate::retention::{self, Kept};
use crate::scan::{Scan, Skip, moved, scan};
use crate::source::Source;
use crate::superseded;
use crate::trouble::Trouble;
use crate::verdict::{Verdict, judge};
use crate::verify::verify;
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// With more than this to compress, threads are started.
const BACKLOG_BYTES: u64 = 4 << 20;

/// Keeps one directory's logs in one archive a day.
pub struct Archivist {
    config: Config,
    out: OutDir,
    held: Option<Held>,
    /// Counts the cycles, so that each takes another sample.
    round: u64,
    published_at: Option<Instant>,
    /// The archive that was last read back in full.
    verified: Option<Identity>,
    abort: Arc<AtomicBool>,
    progress: Box<dyn Fn(u64, u64) + Send>,
}

/// How eager a cycle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// News may wait until it is worth an archive, or until it has waited long enough.
    WhenWorthIt,
    /// Whatever is new is published.
    Now,
}

/// What a cycle did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub files: usize,
    /// Some of the files passed over, by name, and how many there are.
    pub skipped: BTreeMap<Vec<u8>, Skip>,
    pub skip_counts: BTreeMap<Skip, u64>,
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

impl Archivist {
    pub fn new(config: Config, out: OutDir, abort: Arc<AtomicBool>) -> Archivist {
        Archivist {
            config,
            out,
            held: None,
            round: 0,
            published_at: None,
            verified: None,
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
        self.round = self.round.wrapping_add(1);
        let today = self.config.calendar.day(now);
        let result = self.days(now, today, haste);
        if let Err(error) = &result {
            self.clean_up(error, today);
        }
        result
    }

    fn days(&mut self, now: Timestamp, today: Date, haste: Haste) -> Result<Outcome, Trouble> {
        if self.held.is_none() {
            self.held = self.load(today)?;
        } else if let Some(finished) = self.held.as_ref().map(|held| held.day).filter(|day| *day < today) {
            tracing::info!(day = %finished, "the day is over: its archive gets a last cycle and stays");
            self.day(now, finished, Haste::Now)?;
        }
        if self.held.as_ref().is_some_and(|held| held.day != today)
            && self.out.open(&self.archive_name(today))?.is_some()
        {
            // The clock was set back, or somebody put one there: what it holds must stay.
            self.held = self.load(today)?;
        }
        let mut outcome = self.day(now, today, haste)?;
        outcome.removed_archives = self.retire(today)?;
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
        let root = self.root()?;
        let mut base = self.base(&root, day)?;
        let (mut plan, mut outcome) = self.plan(&root)?;
        let Some(news) = self.news(&plan, day) else {
            outcome.measure(self.held.as_ref());
            return Ok(outcome);
        };
        let first = self.held.as_ref().is_none_or(|held| held.day != day);
        if !first && haste == Haste::WhenWorthIt && !self.is_worth_it(news) {
            outcome.waiting = Some(news);
            outcome.measure(self.held.as_ref());
            return Ok(outcome);
        }
        if let (Some(held), Some(file)) = (&self.held, &base)
            && let Err(error) = held.check_share(file, self.round)
        {
            tracing::error!(%error, "reading the archive instead of the index");
            self.held = None;
            base = self.base(&root, day)?;
            (plan, outcome) = self.plan(&root)?;
        }
        let site = Site { root: &root, base: base.as_ref(), now, day };
        let (published, held) = self.publish(&site, &plan, news, &mut outcome)?;
        self.held = Some(held);
        self.published_at = Some(Instant::now());
        outcome.published = Some(published);
        outcome.measure(self.held.as_ref());
        Ok(outcome)
    }

    /// Looks, and compares what may have changed without a trace.
    fn plan(&mut self, root: &Beneath) -> Result<(Plan, Outcome), Trouble> {
        let entries = self.held.as_ref().map_or(&[][..], Held::entries);
        let known: HashSet<_> = entries.iter().filter_map(|e| e.stamp().map(|s| (s.dev, s.ino))).collect();
        let is_known = |stamp: &Stamp| known.contains(&(stamp.dev, stamp.ino));
        let Scan { files, skipped, counts } =
            scan(root, &self.config.select, &self.config.limits, &is_known)?;
        let outcome = Outcome { files: files.len(), skipped, skip_counts: counts, ..Outcome::default() };
        let mut plan = Plan::new(files, entries);
        if let Some(held) = &mut self.held {
            refresh(held, &mut plan, root, &self.config);
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
        let publishing = &self.config.publishing;
        self.published_at.is_none_or(|at| at.elapsed() >= publishing.within)
            || news.saturating_mul(100) >= archived.saturating_mul(publishing.percent)
    }

    /// The archive whose blocks are kept, if there is one. An archive of this day that is not known, or of
    /// the other kind, is taken over first: nothing that it holds may be lost.
    fn base(&mut self, root: &Beneath, day: Date) -> Result<Option<File>, Trouble> {
        let base = self.own_base(root, day)?;
        let other = archive_name(day, self.config.packing.codec.other());
        let Some((theirs, _)) = self.out.open(&other)? else { return Ok(base) };
        self.held = Some(self.adopt(root, base.as_ref(), (&other, &theirs), day)?);
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

    fn own_base(&mut self, root: &Beneath, day: Date) -> Result<Option<File>, Trouble> {
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
        self.held = Some(self.adopt(root, None, (&name, &theirs), day)?);
        self.open_base()
    }

    /// Rewrites an archive without an index, or of the other kind, into one of ours with all its content,
    /// behind that of our own of this day, if there is one.
    fn adopt(
        &self,
        root: &Beneath,
        base: Option<&File>,
        (name, theirs): (&str, &File),
        day: Date,
    ) -> Result<Held, Trouble> {
        let archive = self.out.path_of(name);
        tracing::info!(archive, "no index of this kind: reading the archive to take it over");
        let ours = self.held.as_ref().filter(|held| held.day == day && base.is_some());
        let expected = ours.map_or(0, |held| held.index.identity.size);
        let size = look_into(theirs).map_err(Trouble::doing(format!("look at {archive}")))?.stamp.size;
        let mut assembly =
            self.assembly(root, base, &self.archive_name(day), expected.saturating_add(size))?;
        assembly.pool.grow(self.workers(u64::MAX), &self.config.packing).map_err(no_thread)?;
        for entry in ours.map_or(&[][..], Held::entries) {
            assembly.carry(entry, &entry.name, entry.origin, entry.meta)?;
        }
        let damage = adopt(theirs, &mut assembly)?;
        let (_, held) = self.finish(assembly, day, |out| match &damage {
            Some(why) => {
                let aside = format!("{name}.damaged");
                tracing::error!(
                    archive,
                    why,
                    kept_as = aside,
                    "the archive is damaged; what could be read is kept"
                );
                out.keep_as(name, &aside)
            }
            None => Ok(()),
        })?;
        Ok(held)
    }

    fn workers(&self, backlog: u64) -> usize {
        let threads = self.config.packing.threads;
        if backlog > BACKLOG_BYTES && threads > 1 { threads } else { 0 }
    }

    fn assembly<'a>(
        &'a self,
        root: &'a Beneath,
        base: Option<&'a File>,
        name: &str,
        expected: u64,
    ) -> Result<Assembly<'a>, Trouble> {
        let min_free = self.config.limits.min_free;
        let room = move |needed: u64| {
            let (free, needed) = (self.out.free_bytes()?, needed.saturating_add(min_free));
            if free < needed { Err(Trouble::DiskFull { free, needed }) } else { Ok(()) }
        };
        let aligned = self.out.has_reflinks();
        room(if aligned { 0 } else { expected })?;
        let check = move || match self.abort.load(Ordering::Relaxed) {
            true => Err(Trouble::Aborted),
            false => room(0),
        };
        let file = self.out.draft(name)?;
        let mut draft = Draft::new(file, self.out.path_of(&draft_name(name)), base, check);
        draft.write(&self.config.packing.codec.preamble())?;
        let mut assembly = Assembly::new(&self.config, root, draft, self.round)?;
        assembly.aligned = aligned;
        Ok(assembly)
    }

    fn publish(
        &self,
        site: &Site<'_>,
        plan: &Plan,
        news: u64,
        outcome: &mut Outcome,
    ) -> Result<(Published, Held), Trouble> {
        let Site { root, base, now, day } = *site;
        let name = self.archive_name(day);
        let entries = self.held.as_ref().map_or(&[][..], Held::entries);
        let superseded_max = self.config.limits.superseded_bytes;
        let same_day = self.held.as_ref().is_some_and(|held| held.day == day);
        let before = self.held.as_ref().map_or(0, |held| held.index.identity.size);
        // New text takes a fifth to a sixth of its size; should it take more, the draft notices in time.
        let progress = |done| (self.progress)(done, news);
        let mut assembly = self.assembly(root, base, &name, before.saturating_add(news / 5))?;
        assembly.progress = &progress;
        assembly.pool.grow(self.workers(news), &self.config.packing).map_err(no_thread)?;
        assembly.suffix = (same_day && superseded_max > 0).then(|| self.config.calendar.suffix(now));
        assembly.taken = plan.names(entries);
        if assembly.suffix.is_some() {
            assembly.moved = moved(root, &self.config.select, &plan.lost(entries))?;
        }
        let dropped = superseded::too_many(entries, superseded_max);
        for item in &plan.items {
            if self.abort.load(Ordering::Relaxed) {
                return Err(Trouble::Aborted);
            }
            match item {
                Item::Live { found, old } => assembly.live(found, old.map(|old| &entries[old]))?,
                Item::Missing(old) => assembly.supersede(&entries[*old])?,
                Item::Superseded(old) => {
                    let old = &entries[*old];
                    if same_day && !dropped.contains(&old.name) {
                        assembly.carry(old, &old.name, Origin::Superseded, old.meta)?;
                    }
                }
            }
        }
        for (name, skip) in std::mem::take(&mut assembly.skipped) {
            *outcome.skip_counts.entry(skip).or_default() += 1;
            outcome.skipped.insert(name, skip);
        }
        self.finish(assembly, day, |_| match (base, &self.held) {
            (Some(base), Some(held)) if !held.is_unchanged(base) => {
                Err(Trouble::ArchiveChanged(self.out.path_of(&held.archive_name())))
            }
            _ => Ok(()),
        })
    }

    /// Ends the archive, brings it to the disk, and gives it its name.
    fn finish(
        &self,
        mut assembly: Assembly<'_>,
        day: Date,
        before_rename: impl FnOnce(&OutDir) -> Result<(), Trouble>,
    ) -> Result<(Published, Held), Trouble> {
        let (name, codec) = (self.archive_name(day), self.config.packing.codec);
        let (epilogue, sum) = codec.epilogue(assembly.pool.own(), assembly.sum)?;
        assembly.draft.write(&epilogue)?;
        let published = Published {
            compressed: assembly.compressed,
            written: assembly.draft.written,
            copied: assembly.draft.copied,
            superseded: assembly.superseded,
        };
        let Assembly { draft, entries, .. } = assembly;
        let file = draft.finish()?;
        before_rename(&self.out)?;
        self.out.publish(&name)?;
        // Only now: the rename has changed its change time.
        let look =
            look_into(&file).map_err(Trouble::doing(format!("look at {}", self.out.path_of(&name))))?;
        let stamp = look.stamp;
        let identity =
            Identity { ino: stamp.ino, size: stamp.size, mtime: stamp.mtime, ctime: stamp.ctime, sum };
        let prefix = self.config.prefix.clone();
        let held = Held { day, index: Index { codec, identity, prefix, entries } };
        held.save(&self.out)?;
        Ok((published, held))
    }

    fn clean_up(&mut self, error: &Trouble, today: Date) {
        if matches!(error, Trouble::ArchiveChanged(_) | Trouble::ArchiveDamaged { .. }) {
            self.held = None;
        }
        let days = self.held.as_ref().map(|held| held.day).into_iter().chain([today]);
        for day in days {
            if let Err(error) = self.out.remove(&draft_name(&self.archive_name(day))) {
                tracing::warn!(%error, "a half-made archive could not be removed");
            }
        }
    }

    /// Deletes the logs that are old and archived, after every byte of the archive has been read back.
    fn remove_sources(&mut self, now: Timestamp, after: Duration) -> Result<u64, Trouble> {
        let Some(held) = &mut self.held else { return Ok(0) };
        if removal::candidates(held.entries(), now, after).next().is_none() {
            return Ok(0);
        }
        let Some(archive) = held.open_base(&self.out)? else { return Ok(0) };
        let name = held.archive_name();
        if self.verified != Some(held.index.identity) {
            verify(&archive, Some(&held.index))
                .map_err(|fault| Trouble::ArchiveDamaged { name, why: fault.to_string() })?;
            self.verified = Some(held.index.identity);
        }
        let root = self.root()?;
        let entries = self.held.as_ref().map_or(&[][..], Held::entries);
        let mut removed = 0;
        for (entry, stamp) in removal::candidates(entries, now, after) {
            let file = entry.name.escape_ascii().to_string();
            match removal::remove(&root, &entry.name, &stamp) {
                Ok(true) => {
                    tracing::info!(file, "deleted: it is old and in a verified archive");
                    removed += 1;
                }
                Ok(false) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(file, %error, "cannot delete"),
            }
        }
        Ok(removed)
    }

    fn archive_name(&self, day: Date) -> String {
        archive_name(day, self.config.packing.codec)
    }

    fn root(&self) -> Result<Beneath, Trouble> {
        Beneath::open(&self.config.dir).map_err(Trouble::on("open the log directory", &self.config.dir))
    }

    /// Removes the archives that are beyond the limits, with their indexes.
    fn retire(&self, today: Date) -> Result<u64, Trouble> {
        let mut bytes = BTreeMap::<Date, u64>::new();
        for (day, _, size) in self.out.archives()? {
            *bytes.entry(day).or_default() += size;
        }
        let archives = bytes.into_iter().map(|(day, bytes)| Kept { day, bytes }).collect();
        let over = retention::to_remove(archives, today, self.config.limits.keep);
        for name in over.iter().flat_map(|day| Codec::ALL.map(|codec| archive_name(*day, codec))) {
            if self.out.open(&name)?.is_none() {
                continue;
            }
            tracing::info!(archive = name, "removing an archive that is older or more than is kept");
            self.out.remove(&name)?;
            self.out.remove(&index_name(&name))?;
        }
        Ok(over.len() as u64)
    }
}

/// What an archive is made of, when, and for which day.
struct Site<'a> {
    root: &'a Beneath,
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

fn no_thread(error: std::io::Error) -> Trouble {
    Trouble::doing("start a thread for compression")(error)
}

/// Files that were only touched are read once and are known again, so that a new time alone makes no news.
fn refresh(held: &mut Held, plan: &mut Plan, root: &Beneath, config: &Config) {
    let mut buffer = Vec::new();
    for item in &plan.items {
        let Item::Live { found, old: Some(old) } = item else { continue };
        let entry = &mut held.index.entries[*old];
        if judge(entry, &found.stamp) != Verdict::Doubtful || entry.size() != found.stamp.size {
            continue;
        }
        let Ok(source) = Source::open(root, found, config.select.hard_links) else { continue };
        let same = source.matching(&entry.blocks, &mut buffer).is_ok_and(|n| n == entry.blocks.len());
        if same && source.look.stamp.size == entry.size() {
            entry.origin = Origin::Live(source.look.stamp);
            entry.meta = source.look.meta;
            plan.verified.insert(*old);
        }
    }
}
