//! The rolling comparison of what the archive keeps with the logs themselves: it finds edits that stamps do
//! not show.

use crate::archive::entry::{Entry, Origin};
use crate::cycle::comparison::{Comparison, compare};
use crate::cycle::plan::{Item, Plan};
use crate::logs::directories::Roots;
use crate::logs::scan::Found;
use crate::logs::source::Source;
use std::collections::HashMap;

/// All logs are compared within this many looks, whatever the budget.
const LOOKS_MAX: u64 = 64;

/// The amount that a look compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// The larger of this many bytes and one 64th of all logs.
    Bytes(u64),
    Unlimited,
}

/// Compares each log once after it was last appended to, a part of it at each look.
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
    found: &'a Found,
    old: usize,
    lap: Lap,
}

impl Scrub {
    /// Returns the entries whose files no longer hold what was archived of them.
    pub fn edited(
        &mut self,
        plan: &Plan,
        entries: &[Entry],
        roots: &Roots,
        hard_links: bool,
        budget: Budget,
    ) -> Vec<usize> {
        let mut candidates = self.candidates(plan, entries);
        let all_bytes: u64 = candidates.iter().map(|c| entries[c.old].size()).sum();
        let mut budget_bytes = match budget {
            Budget::Bytes(bytes) => bytes.max(all_bytes.div_ceil(LOOKS_MAX)),
            Budget::Unlimited => u64::MAX,
        };
        // Candidates are sorted by name: those before the log to continue with come last.
        let first = candidates.partition_point(|c| c.found.name < self.resume_at);
        candidates.rotate_left(first);
        let mut edited = Vec::new();
        for Candidate { found, old, lap } in &mut candidates {
            if budget_bytes == 0 {
                break;
            }
            self.resume_at.clone_from(&found.name);
            let Ok(source) = Source::open(roots, found, hard_links) else { continue };
            if !compare_part(&source, &entries[*old], lap, &mut budget_bytes) {
                edited.push(*old);
            }
        }
        self.laps = candidates.iter().map(|c| ((c.found.stamp.dev, c.found.stamp.ino), c.lap)).collect();
        edited
    }

    /// The logs that are compared by parts. The others have changed in ways that make the cycle compare all
    /// of them.
    fn candidates<'a>(&self, plan: &'a Plan, entries: &[Entry]) -> Vec<Candidate<'a>> {
        let candidates = plan.items.iter().filter_map(|item| {
            let Item::Live { found, old: Some(old) } = item else { return None };
            let blocks = entries[*old].blocks.len();
            let known = self.laps.get(&(found.stamp.dev, found.stamp.ino)).copied();
            let lap = known.unwrap_or(Lap { next: 0, left: blocks });
            let lap = match compare(&entries[*old], &found.stamp) {
                Comparison::Same => Lap { left: lap.left.min(blocks), ..lap },
                Comparison::Grown => Lap { left: blocks, ..lap },
                Comparison::Doubtful => return None,
            };
            Some(Candidate { found, old: *old, lap })
        });
        candidates.collect()
    }
}

/// Continues a lap until it or the budget ends. False if a block differs.
fn compare_part(source: &Source, entry: &Entry, lap: &mut Lap, budget_bytes: &mut u64) -> bool {
    let blocks = &entry.blocks;
    let mut buffer = Vec::new();
    let mut offset = None;
    while lap.left > 0 && *budget_bytes > 0 {
        if lap.next >= blocks.len() {
            (lap.next, offset) = (0, None);
        }
        let at = offset.unwrap_or_else(|| crate::archive::block::plain_len(&blocks[..lap.next]));
        let block = &blocks[lap.next];
        match source.holds(block, at, &mut buffer) {
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

/// Marks an entry so that its file is not trusted before all of it has been compared.
pub fn distrust(entry: &mut Entry) {
    entry.origin = Origin::Recovered;
}
