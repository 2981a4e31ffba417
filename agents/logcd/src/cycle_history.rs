//! The last cycles and the files they skipped, for the page.

use crate::cycle::report::{CycleReport, Published};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;

/// The number of cycles that are remembered.
const CYCLES_MAX: usize = 60;
/// Limit on the skipped files that are shown by name, because a stranger may plant any number.
const NAMES_MAX: usize = 50;

/// The result and cost of one look at the directories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cycle {
    pub at_ms: i64,
    pub result: &'static str,
    pub took_ms: u128,
    pub files: usize,
    pub compressed_bytes: u64,
    pub copied_bytes: u64,
    pub written_bytes: u64,
    pub superseded: u64,
    pub waiting_bytes: u64,
    pub archive_bytes: u64,
    pub content_bytes: u64,
}

/// The content of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecentCycles {
    /// The newest is last. Of several looks in a row without news, only the last one is kept.
    pub cycles: VecDeque<Cycle>,
    /// Some of the skipped files, with the reason.
    pub skipped: Vec<(String, &'static str)>,
    /// The number of skipped files by reason.
    pub skip_counts: Vec<(&'static str, u64)>,
}

/// The history, which is updated after each cycle.
#[derive(Debug, Default)]
pub struct CycleHistory(watch::Sender<RecentCycles>);

impl CycleHistory {
    pub fn read(&self) -> watch::Receiver<RecentCycles> {
        self.0.subscribe()
    }

    pub fn done(&self, report: &CycleReport, result: &'static str, took: Duration, at_ms: i64) {
        let Published { compressed, written, copied, superseded } = report.published.unwrap_or_default();
        let cycle = Cycle {
            at_ms,
            result,
            took_ms: took.as_millis(),
            files: report.files,
            compressed_bytes: compressed,
            copied_bytes: copied,
            written_bytes: written,
            superseded,
            waiting_bytes: report.waiting.unwrap_or(0),
            archive_bytes: report.archive_bytes,
            content_bytes: report.content_bytes,
        };
        let skipped = report.skipped.iter().take(NAMES_MAX);
        let skipped = skipped.map(|(name, skip)| (name.escape_ascii().to_string(), skip.reason())).collect();
        let skip_counts = report.skip_counts.iter().map(|(skip, count)| (skip.reason(), *count)).collect();
        self.0.send_modify(|notes| {
            notes.add(cycle);
            (notes.skipped, notes.skip_counts) = (skipped, skip_counts);
        });
    }

    pub fn failed(&self, result: &'static str, took: Duration, at_ms: i64) {
        let cycle = Cycle { at_ms, result, took_ms: took.as_millis(), ..Cycle::default() };
        self.0.send_modify(|notes| notes.add(cycle));
    }
}

impl RecentCycles {
    fn add(&mut self, cycle: Cycle) {
        let quiet = |cycle: &Cycle| cycle.result == "unchanged";
        if quiet(&cycle) && self.cycles.back().is_some_and(quiet) {
            self.cycles.pop_back();
        }
        self.cycles.push_back(cycle);
        if self.cycles.len() > CYCLES_MAX {
            self.cycles.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::skip::Skip;

    #[test]
    fn quiet_cycles_do_not_displace_others() {
        let history = CycleHistory::default();
        let report = CycleReport::default();
        for n in 0..100 {
            history.done(&report, "published", Duration::ZERO, n);
        }
        for n in 100..200 {
            history.done(&report, "unchanged", Duration::ZERO, n);
        }
        history.failed("disk_full", Duration::ZERO, 200);
        let notes = history.read().borrow().clone();
        let times: Vec<i64> = notes.cycles.iter().map(|cycle| cycle.at_ms).collect();
        assert_eq!((times.len(), times[0], &times[58..]), (60, 42, &[199, 200][..]));
    }

    #[test]
    fn skipped_names_are_bounded() {
        let skipped = (0..5000).map(|n| (format!("{n}\u{1b}").into_bytes(), Skip::Symlink)).collect();
        let report =
            CycleReport { skipped, skip_counts: [(Skip::Symlink, 5000)].into(), ..CycleReport::default() };
        let history = CycleHistory::default();
        history.done(&report, "unchanged", Duration::ZERO, 0);
        let notes = history.read().borrow().clone();
        assert_eq!((notes.skipped.len(), notes.skip_counts), (NAMES_MAX, vec![("symlink", 5000)]));
        assert_eq!(notes.skipped[0], ("0\\x1b".to_owned(), "symlink"));
    }
}
