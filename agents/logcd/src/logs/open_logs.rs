//! Logs that are kept open between two looks, so that what was written to them just before they were deleted can be read.

use crate::beneath::{Kind, look_into};
use crate::logs::directories::Roots;
use crate::logs::scan::Found;
use std::collections::{HashMap, HashSet};
use std::fs::File;

/// Logs kept open at most; the ones that changed last are.
const OPEN_MAX: usize = 256;

/// Open logs by device and inode. A log that is deleted or compressed by its writer stays readable here.
#[derive(Debug, Default)]
pub struct OpenLogs(HashMap<(u64, u64), File>);

impl OpenLogs {
    /// Opens the logs that changed last.
    pub fn open<'a>(&mut self, files: impl Iterator<Item = &'a Found>, roots: &Roots) {
        let mut newest: Vec<&Found> = files.collect();
        newest.sort_by_key(|found| std::cmp::Reverse(found.stamp.mtime));
        for found in newest.into_iter().take(OPEN_MAX) {
            let id = (found.stamp.dev, found.stamp.ino);
            if self.0.contains_key(&id) {
                continue;
            }
            let Some((at, path)) = roots.locate(&found.name) else { continue };
            let Ok(file) = at.file(path) else { continue };
            let same = |file: &File| {
                look_into(file)
                    .is_ok_and(|look| look.kind == Kind::Regular && (look.stamp.dev, look.stamp.ino) == id)
            };
            if same(&file) {
                self.0.insert(id, file);
            }
        }
    }

    /// Closes all others.
    pub fn keep(&mut self, wanted: &HashSet<(u64, u64)>) {
        self.0.retain(|id, _| wanted.contains(id));
    }

    pub fn get(&self, id: (u64, u64)) -> Option<&File> {
        self.0.get(&id)
    }
}
