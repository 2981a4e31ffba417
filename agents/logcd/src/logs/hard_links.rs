//! Counts the names of files with several names, to find those with names outside of the log directories.

use crate::archive::file_stamp::FileStamp;
use crate::config::Select;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::other_names::other_names;
use crate::safe_dir::FileStatus;
use std::collections::HashMap;

/// The files with several names, by device and inode.
#[derive(Debug, Default)]
pub struct HardLinks(HashMap<(u64, u64), Links>);

/// The number of names that a file has, and the number that were found.
#[derive(Clone, Copy, Debug)]
struct Links {
    all: u64,
    found: u64,
}

impl HardLinks {
    /// Counts a name that matches.
    pub fn count(&mut self, status: &FileStatus) {
        if status.links > 1 {
            let links = self.0.entry(status.stamp.id());
            links.or_insert(Links { all: status.links, found: 0 }).found += 1;
        }
    }

    /// Counts names that do not match. A file whose names were all counted has none outside.
    pub fn count_other_names(&mut self, roots: &Roots, select: &Select) -> Result<(), ArchiveError> {
        if self.0.values().all(|links| links.found >= links.all) {
            return Ok(());
        }
        let inodes = self.0.keys().map(|(_, ino)| *ino).collect();
        other_names(roots, select, &inodes, &mut |_, status| {
            if let Some(links) = self.0.get_mut(&status.stamp.id()) {
                links.found += 1;
            }
        })
    }

    /// True if a file may have a name outside of the directories.
    pub fn is_outside(&self, stamp: &FileStamp) -> bool {
        self.0.get(&stamp.id()).is_some_and(|links| links.found < links.all)
    }
}
