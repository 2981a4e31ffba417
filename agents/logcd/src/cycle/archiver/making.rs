//! Makes an archive from the logs and the kept blocks, or from another program's archive, and publishes it.

use super::{Archiver, CycleReport, Published, Site};
use crate::archive::draft::Draft;
use crate::archive::entry::Origin;
use crate::archive::index::{Identity, Index};
use crate::archive_dir::LockedArchiveDir;
use crate::cycle::adopt::adopt;
use crate::cycle::assembly::Assembly;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::cycle::plan::{Item, Plan};
use crate::cycle::superseded;
use crate::day::draft_name;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::scan::moved;
use crate::safe_dir::status_of;
use jiff::civil::Date;
use std::fs::File;
use std::sync::atomic::Ordering;

/// With more than this to compress, threads are started.
const BACKLOG_BYTES: u64 = 4 << 20;

impl Archiver {
    /// Rewrites an archive without an index, or of the other kind, with all its content. The content of our
    /// own archive of this day, if there is one, comes first.
    pub(super) fn adopt(
        &self,
        roots: &Roots,
        base: Option<&File>,
        (name, theirs): (&str, &File),
        day: Date,
    ) -> Result<IndexedArchive, ArchiveError> {
        let archive = self.out.path_of(name);
        tracing::info!(archive, "no index of this kind: reading the archive to take it over");
        let ours = self.held.as_ref().filter(|held| held.day == day && base.is_some());
        let expected = ours.map_or(0, |held| held.index.identity.size);
        let size = status_of(theirs).map_err(ArchiveError::doing(format!("look at {archive}")))?.stamp.size;
        let mut assembly =
            self.assembly(roots, base, &self.archive_name(day), expected.saturating_add(size))?;
        assembly.pool.grow(self.workers(u64::MAX), &self.config.packing).map_err(no_thread)?;
        for entry in ours.map_or(&[][..], IndexedArchive::entries) {
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

    /// Estimates the size of the next archive.
    pub(super) fn expected_bytes(&self, news: u64) -> u64 {
        let before = self.held.as_ref().map_or(0, |held| held.index.identity.size);
        // New text takes a fifth to a sixth of its size; if it takes more, the draft notices in time.
        before.saturating_add(news / 5)
    }

    fn check_room(&self, bytes: u64) -> Result<(), ArchiveError> {
        let (space, floor) = (self.out.space()?, self.config.limits.min_free);
        if !floor.forbids(space, bytes) {
            return Ok(());
        }
        let needed = bytes.saturating_add(floor.bytes_of(space.capacity_bytes));
        Err(ArchiveError::DiskFull { free: space.available_bytes, needed, floor })
    }

    fn assembly<'a>(
        &'a self,
        roots: &'a Roots,
        base: Option<&'a File>,
        name: &str,
        expected: u64,
    ) -> Result<Assembly<'a>, ArchiveError> {
        let aligned = self.out.has_reflinks();
        self.check_room(if aligned { 0 } else { expected })?;
        let check = move || match self.abort.load(Ordering::Relaxed) {
            true => Err(ArchiveError::Aborted),
            false => self.check_room(0),
        };
        let file = self.out.draft(name)?;
        let mut draft = Draft::new(file, self.out.path_of(&draft_name(name)), base, check);
        draft.write(&self.config.packing.codec.preamble())?;
        let mut assembly = Assembly::new(&self.config, roots, draft, self.round)?;
        assembly.aligned = aligned;
        Ok(assembly)
    }

    pub(super) fn publish(
        &self,
        site: &Site<'_>,
        plan: &Plan,
        news: u64,
        outcome: &mut CycleReport,
    ) -> Result<(Published, IndexedArchive), ArchiveError> {
        let Site { roots, base, now, day } = *site;
        let name = self.archive_name(day);
        let entries = self.held.as_ref().map_or(&[][..], IndexedArchive::entries);
        let superseded_max = self.config.limits.superseded_bytes;
        let same_day = self.held.as_ref().is_some_and(|held| held.day == day);
        let progress = |done| (self.progress)(done, news);
        let mut assembly = self.assembly(roots, base, &name, self.expected_bytes(news))?;
        assembly.progress = &progress;
        assembly.pool.grow(self.workers(news), &self.config.packing).map_err(no_thread)?;
        assembly.suffix = (same_day && superseded_max > 0).then(|| self.config.calendar.suffix(now));
        assembly.taken = plan.names(entries);
        if assembly.suffix.is_some() {
            assembly.open = Some(&self.open);
            assembly.moved = moved(roots, &self.config.select, &plan.lost(entries))?;
        }
        let dropped = superseded::too_many(entries, superseded_max);
        for item in &plan.items {
            if self.abort.load(Ordering::Relaxed) {
                return Err(ArchiveError::Aborted);
            }
            match item {
                Item::Live { found, old } => assembly.live(found, old.map(|old| &entries[old]))?,
                Item::Missing(old) => assembly.supersede(&entries[*old])?,
                Item::Away(old) => {
                    let old = &entries[*old];
                    assembly.carry(old, &old.name, old.origin, old.meta)?;
                }
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
                Err(ArchiveError::ArchiveChanged(self.out.path_of(&held.archive_name())))
            }
            _ => Ok(()),
        })
    }

    /// Completes, syncs and renames the archive.
    fn finish(
        &self,
        mut assembly: Assembly<'_>,
        day: Date,
        before_rename: impl FnOnce(&LockedArchiveDir) -> Result<(), ArchiveError>,
    ) -> Result<(Published, IndexedArchive), ArchiveError> {
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
        // After the rename, which changes the change time.
        let look =
            status_of(&file).map_err(ArchiveError::doing(format!("look at {}", self.out.path_of(&name))))?;
        let stamp = look.stamp;
        let identity =
            Identity { ino: stamp.ino, size: stamp.size, mtime: stamp.mtime, ctime: stamp.ctime, sum };
        let prefix = self.config.prefix.clone();
        let held = IndexedArchive { day, index: Index { codec, identity, prefix, entries } };
        held.save(&self.out)?;
        Ok((published, held))
    }
}

fn no_thread(error: std::io::Error) -> ArchiveError {
    ArchiveError::doing("start a thread for compression")(error)
}
