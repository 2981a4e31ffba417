//! Finds files under names that do not match, such as `x.log.1` next to `x.log`.

use crate::config::Select;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::scanned_file::ScannedFile;
use crate::logs::walk::walk;
use crate::safe_dir::{FileStatus, Kind, status_at};
use std::collections::{HashMap, HashSet};

/// Finds archived files that were renamed to names that do not match.
pub fn moved(
    roots: &Roots,
    select: &Select,
    wanted: &HashSet<(u64, u64)>,
) -> Result<HashMap<(u64, u64), ScannedFile>, ArchiveError> {
    let mut moved = HashMap::new();
    if wanted.is_empty() {
        return Ok(moved);
    }
    let inodes = wanted.iter().map(|(_, ino)| *ino).collect();
    other_names(roots, select, &inodes, &mut |entry, status| {
        let id = status.stamp.id();
        if status.kind == Kind::Regular && wanted.contains(&id) {
            moved.insert(id, ScannedFile { name: entry, stamp: status.stamp, links: status.links });
        }
    })?;
    Ok(moved)
}

/// Visits the files of these inodes whose names do not match.
pub fn other_names(
    roots: &Roots,
    select: &Select,
    inodes: &HashSet<u64>,
    visit: &mut dyn FnMut(Vec<u8>, &FileStatus),
) -> Result<(), ArchiveError> {
    for root in &roots.open {
        walk(root, select.recursive, &mut |directory, name, ino| {
            if inodes.contains(&ino)
                && !select.takes(name.path)
                && let Ok(status) = status_at(directory, name.last)
            {
                visit([root.base.as_slice(), name.path].concat(), &status);
            }
        })?;
    }
    Ok(())
}
