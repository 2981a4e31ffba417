//! The result of a cycle, for the daemon's log, its metrics and its page.

use crate::cycle::indexed_archive::IndexedArchive;
use crate::logs::skip::Skip;
use crate::logs::unmatched::Unmatched;
use std::collections::BTreeMap;

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

/// The cost of a published archive, in bytes, and the contents that it keeps although no file holds them.
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

    pub(super) fn measure(&mut self, archive: Option<&IndexedArchive>) {
        let identity = archive.map(|archive| archive.index.identity).unwrap_or_default();
        (self.archive_bytes, self.content_bytes) = (identity.size, identity.sum.len);
    }
}
