//! Makes an archive from the logs and the kept blocks, and publishes it.

use super::Archiver;
use crate::archive::draft::Draft;
use crate::archive::index::{ArchiveIdentity, Index};
use crate::archive_dir::LockedArchiveDir;
use crate::cycle::assembly::Assembly;
use crate::cycle::changes::Changes;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::cycle::plan::{EntryStep, SupersededRules};
use crate::cycle::report::{CycleReport, Published};
use crate::day::draft_name;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::other_names::moved;
use crate::safe_dir::status_of;
use jiff::Timestamp;
use jiff::civil::Date;
use std::fs::File;
use std::sync::atomic::Ordering;

/// Threads are started to compress more than this.
const BACKLOG_BYTES: u64 = 4 << 20;

impl Archiver {
    /// Estimates the size of the next archive.
    pub(super) fn expected_bytes(&self, news: u64) -> u64 {
        let before = self.current.as_ref().map_or(0, |current| current.index.identity.size);
        // New text compresses to a fifth or sixth of its size. If it takes more, the draft notices in time.
        before.saturating_add(news / 5)
    }

    fn check_room(&self, bytes: u64) -> Result<(), ArchiveError> {
        let (space, floor) = (self.dir.space()?, self.config.limits.min_free);
        if !floor.forbids(space, bytes) {
            return Ok(());
        }
        let needed = bytes.saturating_add(floor.bytes_of(space.capacity_bytes));
        Err(ArchiveError::DiskFull { free: space.available_bytes, needed, floor })
    }

    pub(super) fn assembly<'a>(
        &'a self,
        roots: &'a Roots,
        base: Option<&'a File>,
        name: &str,
        expected: u64,
    ) -> Result<Assembly<'a>, ArchiveError> {
        let aligned = self.dir.has_reflinks();
        self.check_room(if aligned { 0 } else { expected })?;
        let check = move || match self.abort.load(Ordering::Relaxed) {
            true => Err(ArchiveError::Aborted),
            false => self.check_room(0),
        };
        let file = self.dir.draft(name)?;
        let mut draft = Draft::new(file, self.dir.path_of(&draft_name(name)), base, check);
        draft.write(&self.config.packing.codec.preamble())?;
        let mut assembly = Assembly::new(&self.config, roots, draft, self.round)?;
        assembly.aligned = aligned;
        Ok(assembly)
    }

    pub(super) fn start_threads(
        &self,
        assembly: &mut Assembly<'_>,
        backlog: u64,
    ) -> Result<(), ArchiveError> {
        let packing = &self.config.packing;
        let threads = if backlog > BACKLOG_BYTES && packing.threads > 1 { packing.threads } else { 0 };
        let started = assembly.pool.grow(threads, packing);
        started.map_err(ArchiveError::doing("start a thread for compression"))
    }

    /// Makes the archive of a day from the logs and the entries of the current archive, and replaces that
    /// one.
    pub(super) fn publish(
        &mut self,
        roots: &Roots,
        base: Option<&File>,
        (now, day): (Timestamp, Date),
        changes: &Changes,
        news: u64,
        report: &mut CycleReport,
    ) -> Result<Published, ArchiveError> {
        let entries = self.current.as_ref().map_or(&[][..], IndexedArchive::entries);
        let is_same_day = self.current.as_ref().is_some_and(|current| current.day == day);
        let rules = SupersededRules::new(entries, is_same_day, self.config.limits.superseded_bytes);
        let progress = |done| (self.progress)(done, news);
        let mut assembly = self.assembly(roots, base, &self.archive_name(day), self.expected_bytes(news))?;
        assembly.progress = &progress;
        self.start_threads(&mut assembly, news)?;
        assembly.taken = changes.names(entries);
        if rules.is_kept {
            assembly.suffix = Some(self.config.calendar.suffix(now));
            assembly.open = Some(&self.open_logs);
            assembly.moved = moved(roots, &self.config.select, &changes.lost(entries))?;
        }
        for found in &changes.matches {
            if self.abort.load(Ordering::Relaxed) {
                return Err(ArchiveError::Aborted);
            }
            match EntryStep::decide(found, entries, &rules) {
                EntryStep::Carry(entry) => assembly.carry(entry, &entry.name, entry.origin, entry.meta)?,
                EntryStep::Open(file, entry) => assembly.file(file, entry)?,
                EntryStep::Supersede(entry) => assembly.supersede(entry)?,
                EntryStep::Drop => {}
            }
        }
        for (name, skip) in std::mem::take(&mut assembly.skipped) {
            *report.skip_counts.entry(skip).or_default() += 1;
            report.skipped.insert(name, skip);
        }
        let (published, archive) = self.finish(assembly, day, |dir| match (base, &self.current) {
            (Some(base), Some(current)) if !current.is_unchanged(base) => {
                Err(ArchiveError::ArchiveChanged(dir.path_of(&current.archive_name())))
            }
            _ => Ok(()),
        })?;
        self.current = Some(archive);
        Ok(published)
    }

    /// Completes, syncs and renames the archive.
    pub(super) fn finish(
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
        before_rename(&self.dir)?;
        self.dir.publish(&name)?;
        // Must come after the rename, which sets the change time.
        let status =
            status_of(&file).map_err(ArchiveError::doing(format!("look at {}", self.dir.path_of(&name))))?;
        let stamp = status.stamp;
        let identity =
            ArchiveIdentity { ino: stamp.ino, size: stamp.size, mtime: stamp.mtime, ctime: stamp.ctime, sum };
        let prefix = self.config.prefix.clone();
        let archive = IndexedArchive { day, index: Index { codec, identity, prefix, entries } };
        archive.save(&self.dir)?;
        Ok((published, archive))
    }
}
