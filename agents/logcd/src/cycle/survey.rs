//! Scans all log directories once, and finds the files that differ from the archive. Compares their stamps,
//! and their bytes if stamps are not enough.

use crate::archive::entry::{Entry, Origin};
use crate::archive::file_stamp::FileStamp;
use crate::config::Config;
use crate::cycle::changes::{Changes, FileChange, Match};
use crate::cycle::report::CycleReport;
use crate::cycle::scrub::{Scrub, ScrubBudget};
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::log_file::LogFile;
use crate::logs::scan::{Scan, scan};
use std::collections::HashSet;

/// Scans the directories and compares the files with the entries. If a file was only touched, its entry gets
/// the new stamp. If a file was edited, its entry loses its stamp.
pub fn survey(
    roots: &Roots,
    config: &Config,
    entries: &mut [Entry],
    scrub: &mut Scrub,
    budget: ScrubBudget,
) -> Result<(Changes, CycleReport), ArchiveError> {
    let known: HashSet<_> = entries.iter().filter_map(Entry::stamp).map(FileStamp::id).collect();
    let is_known = |stamp: &FileStamp| known.contains(&stamp.id());
    let Scan { files, skipped, counts, unmatched } = scan(roots, &config.select, &config.limits, &is_known)?;
    let report = CycleReport {
        files: files.len(),
        skipped,
        skip_counts: counts,
        unmatched,
        away: roots.complaints(),
        ..CycleReport::default()
    };
    let mut changes = Changes::new(files, entries, &|name| roots.is_away(name));
    let hard_links = config.select.hard_links;
    read_touched(&mut changes, entries, roots, hard_links);
    for edited in scrub.edited(&changes, entries, roots, hard_links, budget) {
        let Match::Known { entry, change, .. } = &mut changes.matches[edited] else { continue };
        let entry = &mut entries[*entry];
        let file = entry.name.escape_ascii().to_string();
        tracing::info!(event = "log_edited", file, "edited since it was archived: comparing the whole log");
        // Until the next archive, the whole file must be compared.
        entry.origin = Origin::Recovered;
        *change = FileChange::Doubtful;
    }
    Ok((changes, report))
}

/// Reads files that may only have been touched, so that a new time alone is no news.
fn read_touched(changes: &mut Changes, entries: &mut [Entry], roots: &Roots, hard_links: bool) {
    let mut buffer = Vec::new();
    for found in &mut changes.matches {
        let Match::Known { file, entry, change } = found else { continue };
        let entry = &mut entries[*entry];
        if *change != FileChange::Doubtful || entry.size() != file.stamp.size {
            continue;
        }
        let Ok(log) = LogFile::open(roots, file, hard_links) else { continue };
        let same = log.matching(&entry.blocks, &mut buffer).is_ok_and(|n| n == entry.blocks.len());
        if same && log.status.stamp.size == entry.size() {
            entry.origin = Origin::Live(log.status.stamp);
            entry.meta = log.status.meta;
            *change = FileChange::unchanged(file, entry);
        }
    }
}
