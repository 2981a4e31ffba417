//! Keeps logs open between two looks, so that their last bytes can be read after they were deleted.

use crate::logs::directories::Roots;
use crate::logs::scanned_file::ScannedFile;
use crate::safe_dir::{Kind, status_of};
use std::collections::{HashMap, HashSet};
use std::fs::File;

/// Limit on the logs that are kept open: those that changed last.
const OPEN_MAX: usize = 256;

/// Device and inode.
type Id = (u64, u64);

/// Open logs by device and inode. A log that is deleted or compressed by its writer stays readable here.
#[derive(Debug, Default)]
pub struct OpenLogs(HashMap<Id, File>);

impl OpenLogs {
    /// Opens the logs that changed last, and closes the others that still have names.
    pub fn open<'a>(&mut self, files: impl Iterator<Item = &'a ScannedFile>, roots: &Roots) {
        let mut newest: Vec<&ScannedFile> = files.collect();
        let named: HashSet<Id> = newest.iter().map(|found| found.stamp.id()).collect();
        newest.sort_by_key(|found| std::cmp::Reverse(found.stamp.mtime));
        newest.truncate(OPEN_MAX);
        let wanted: HashSet<Id> = newest.iter().map(|found| found.stamp.id()).collect();
        self.0.retain(|id, _| wanted.contains(id) || !named.contains(id));
        for found in newest {
            if self.0.len() >= OPEN_MAX {
                break;
            }
            if self.0.contains_key(&found.stamp.id()) {
                continue;
            }
            let Some((at, path)) = roots.locate(&found.name) else { continue };
            if let Ok(file) = at.file(path)
                && is_log(&file, found.stamp.id())
            {
                self.0.insert(found.stamp.id(), file);
            }
        }
    }

    /// Closes all logs, so that deleted ones free their space.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Closes all logs that are not wanted.
    pub fn keep(&mut self, wanted: &HashSet<Id>) {
        self.0.retain(|id, _| wanted.contains(id));
    }

    pub fn get(&self, id: Id) -> Option<&File> {
        self.0.get(&id)
    }
}

/// True if the opened file is still the one that was found.
fn is_log(file: &File, id: Id) -> bool {
    status_of(file).is_ok_and(|look| look.kind == Kind::Regular && look.stamp.id() == id)
}
