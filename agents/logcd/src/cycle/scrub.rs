//! Compares the archived blocks with the logs, a part at each look. Finds edits that stamps do not show.

use crate::archive::block::plain_len;
use crate::archive::entry::Entry;
use crate::cycle::changes::{Changes, FileChange, Match};
use crate::logs::directories::Roots;
use crate::logs::log_file::LogFile;
use crate::logs::scanned_file::ScannedFile;
use std::collections::HashMap;

/// All logs are compared within this many looks, even if that exceeds the budget.
const LOOKS_MAX: u64 = 64;

/// The amount that a look compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubBudget {
    /// The larger of this many bytes and one 64th of all logs.
    Bytes(u64),
    Unlimited,
}

/// Compares each log once after its last append, a part at each look.
#[derive(Debug, Default)]
pub struct Scrub {
    /// Progress by device and inode. A log without an entry has not been compared at all.
    laps: HashMap<(u64, u64), Lap>,
    /// The log to continue with.
    resume_at: Vec<u8>,
}

/// One round over the blocks of a log.
#[derive(Clone, Copy, Debug)]
struct Lap {
    next: usize,
    left: usize,
}

struct Candidate<'a> {
    /// The index of the file's match in `Changes::matches`.
    number: usize,
    file: &'a ScannedFile,
    entry: &'a Entry,
    lap: Lap,
}

impl Scrub {
    /// Compares a part of the logs. Returns the matches whose files no longer hold their archived bytes.
    pub fn edited(
        &mut self,
        changes: &Changes,
        entries: &[Entry],
        roots: &Roots,
        hard_links: bool,
        budget: ScrubBudget,
    ) -> Vec<usize> {
        let mut candidates = self.candidates(changes, entries);
        let all_bytes: u64 = candidates.iter().map(|candidate| candidate.entry.size()).sum();
        let mut budget_bytes = match budget {
            ScrubBudget::Bytes(bytes) => bytes.max(all_bytes.div_ceil(LOOKS_MAX)),
            ScrubBudget::Unlimited => u64::MAX,
        };
        // Candidates are sorted by name: those before the log to continue with come last.
        let first = candidates.partition_point(|candidate| candidate.file.name < self.resume_at);
        candidates.rotate_left(first);
        let mut edited = Vec::new();
        for Candidate { number, file, entry, lap } in &mut candidates {
            if budget_bytes == 0 {
                break;
            }
            self.resume_at.clone_from(&file.name);
            let Ok(log) = LogFile::open(roots, file, hard_links) else { continue };
            if !compare_part(&log, entry, lap, &mut budget_bytes) {
                edited.push(*number);
            }
        }
        self.laps = candidates.iter().map(|candidate| (candidate.file.stamp.id(), candidate.lap)).collect();
        edited
    }

    /// Returns the logs that are compared in parts. A doubtful log is compared as a whole when its entry is
    /// made.
    fn candidates<'a>(&self, changes: &'a Changes, entries: &'a [Entry]) -> Vec<Candidate<'a>> {
        let candidates = changes.matches.iter().enumerate().filter_map(|(number, found)| {
            let Match::Known { file, entry, change } = found else { return None };
            let entry = &entries[*entry];
            let blocks = entry.blocks.len();
            let lap = self.laps.get(&file.stamp.id()).copied().unwrap_or(Lap { next: 0, left: blocks });
            let left = match change {
                FileChange::None | FileChange::Renamed => lap.left.min(blocks),
                FileChange::Grown { .. } => blocks,
                FileChange::Doubtful => return None,
            };
            Some(Candidate { number, file, entry, lap: Lap { left, ..lap } })
        });
        candidates.collect()
    }
}

/// Continues a lap until it or the budget ends. False if a block differs.
fn compare_part(log: &LogFile, entry: &Entry, lap: &mut Lap, budget_bytes: &mut u64) -> bool {
    let blocks = &entry.blocks;
    let mut buffer = Vec::new();
    let mut offset = None;
    while lap.left > 0 && *budget_bytes > 0 {
        if lap.next >= blocks.len() {
            (lap.next, offset) = (0, None);
        }
        let at = offset.unwrap_or_else(|| plain_len(&blocks[..lap.next]));
        let block = &blocks[lap.next];
        match log.holds(block, at, &mut buffer) {
            Ok(true) => {}
            Ok(false) => return false,
            // The cycle that reads the log reports the error.
            Err(_) => return true,
        }
        let len = u64::from(block.plain_len);
        (offset, *budget_bytes) = (Some(at + len), budget_bytes.saturating_sub(len));
        (lap.next, lap.left) = (lap.next + 1, lap.left - 1);
    }
    true
}
