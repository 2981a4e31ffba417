//! Removes unfinished archives, archives beyond the limits, and logs that are safely archived.

use super::Archiver;
use crate::archive::codec::Codec;
use crate::archive::verify::verify;
use crate::cycle::indexed_archive::IndexedArchive;
use crate::cycle::retention::{self, ArchivedDay};
use crate::day::{archive_name, draft_name, index_name};
use crate::error::ArchiveError;
use crate::logs::removal;
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::time::Duration;

impl Archiver {
    pub(super) fn clean_up(&mut self, error: &ArchiveError, today: Date) {
        if matches!(error, ArchiveError::ArchiveChanged(_) | ArchiveError::ArchiveDamaged { .. }) {
            self.current = None;
        }
        if error.is_disk_full() {
            // Somebody may delete logs to free space, which they occupy as long as they are open here.
            self.open_logs.clear();
        }
        let days = self.current.as_ref().map(|current| current.day).into_iter().chain([today]);
        for day in days {
            if let Err(error) = self.dir.remove(&draft_name(&self.archive_name(day))) {
                tracing::warn!(event = "leftover_removal_failed", %error, "cannot remove an unfinished archive");
            }
        }
    }

    /// Deletes the logs that are old and archived, after every byte of the archive has been read back.
    pub(super) fn remove_sources(&mut self, now: Timestamp, after: Duration) -> Result<u64, ArchiveError> {
        let Some(current) = &mut self.current else { return Ok(0) };
        if removal::candidates(current.entries(), now, after).next().is_none() {
            return Ok(0);
        }
        let Some(archive) = current.open(&self.dir)? else { return Ok(0) };
        let name = current.archive_name();
        if self.verified != Some(current.index.identity) {
            verify(&archive, Some(&current.index))
                .map_err(|fault| ArchiveError::ArchiveDamaged { name, why: fault.to_string() })?;
            self.verified = Some(current.index.identity);
        }
        let roots = self.directories.open()?;
        let entries = self.current.as_ref().map_or(&[][..], IndexedArchive::entries);
        let mut removed = 0;
        for (entry, stamp) in removal::candidates(entries, now, after) {
            let file = entry.name.escape_ascii().to_string();
            let Some((root, path)) = roots.locate(&entry.name) else { continue };
            match removal::remove(root, path, &stamp) {
                Ok(true) => {
                    tracing::info!(
                        event = "log_deleted",
                        file,
                        "deleted the log: it is old and in a verified archive"
                    );
                    removed += 1;
                }
                Ok(false) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(event = "log_deletion_failed", file, %error, "cannot delete the log");
                    self.is_tidy = false;
                }
            }
        }
        Ok(removed)
    }

    /// Removes the archives beyond `--keep-days` and `--keep-bytes`, with their indexes.
    pub(super) fn retire(&self, today: Date) -> Result<u64, ArchiveError> {
        let over = retention::to_remove(self.days_kept()?, today, self.config.limits.keep);
        self.remove_days(&over, "it exceeds --keep-days or --keep-bytes")
    }

    /// Removes the oldest finished days if that frees enough space for an archive of `day`.
    pub(super) fn make_room(&self, bytes: u64, day: Date) -> Result<u64, ArchiveError> {
        let bytes = if self.dir.has_reflinks() { 0 } else { bytes };
        let (space, floor) = (self.dir.space()?, self.config.limits.min_free);
        let needed = bytes.saturating_add(floor.bytes_of(space.capacity_bytes));
        let missing = needed.saturating_sub(space.available_bytes);
        // The next archive copies blocks from the base.
        let base = self.current.as_ref().map(|current| current.day);
        let finished = self.days_kept()?.into_iter().filter(|kept| kept.day < day && Some(kept.day) != base);
        let oldest = retention::to_make_room(finished.collect(), missing);
        self.remove_days(&oldest, "--min-free must stay free")
    }

    /// Lists the days that have archives of either kind.
    fn days_kept(&self) -> Result<Vec<ArchivedDay>, ArchiveError> {
        let mut bytes = BTreeMap::<Date, u64>::new();
        for (day, _, size) in self.dir.archives()? {
            *bytes.entry(day).or_default() += size;
        }
        Ok(bytes.into_iter().map(|(day, bytes)| ArchivedDay { day, bytes }).collect())
    }

    fn remove_days(&self, days: &[Date], why: &str) -> Result<u64, ArchiveError> {
        for name in days.iter().flat_map(|day| Codec::ALL.map(|codec| archive_name(*day, codec))) {
            if self.dir.open(&name)?.is_none() {
                continue;
            }
            tracing::info!(event = "archive_removed", archive = name, why, "removing an archive");
            self.dir.remove(&name)?;
            self.dir.remove(&index_name(&name))?;
        }
        Ok(days.len() as u64)
    }
}
