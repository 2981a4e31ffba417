//! Scans the log directories once: lists the files to archive, and the skipped files with the reasons.

use crate::archive::file_stamp::FileStamp;
use crate::config::{ArchiveLimits, Select};
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::hard_links::HardLinks;
use crate::logs::scanned_file::ScannedFile;
use crate::logs::skip::Skip;
use crate::logs::unmatched::{OtherNames, Unmatched};
use crate::logs::walk::walk;
use crate::safe_dir::{Kind, status_at};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Sorted by name.
    pub files: Vec<ScannedFile>,
    /// Some of the skipped files by name.
    pub skipped: BTreeMap<Vec<u8>, Skip>,
    /// The number of skipped files by reason.
    pub counts: BTreeMap<Skip, u64>,
    /// Directories in which no name matches.
    pub unmatched: Vec<Unmatched>,
}

/// Looks at all files. `is_known` is true for inodes that are archived already: if there are too many files,
/// these are not displaced by files that a stranger plants.
pub fn scan(
    roots: &Roots,
    select: &Select,
    limits: &ArchiveLimits,
    is_known: &dyn Fn(&FileStamp) -> bool,
) -> Result<Scan, ArchiveError> {
    let mut scan = Scan::default();
    let mut hard_links = HardLinks::default();
    let mut hole_bytes_left = limits.hole_bytes;
    let mut unmatched = Vec::new();
    for root in &roots.open {
        let (mut others, mut matches) = (OtherNames::None, false);
        walk(root, select.recursive, &mut |directory, name, _| {
            if !select.takes(name.path) {
                if !matches {
                    others.add(name.path);
                }
                return;
            }
            matches = true;
            let entry = || [root.base.as_slice(), name.path].concat();
            let Ok(status) = status_at(directory, name.last) else { return };
            if status.kind == Kind::Directory && select.recursive {
                return;
            }
            let holes = status.stamp.size.saturating_sub(status.allocated);
            match status.kind {
                Kind::Symlink => return scan.skip(&entry(), Skip::Symlink, limits.files),
                Kind::Directory | Kind::Special => {
                    return scan.skip(&entry(), Skip::NotAFile, limits.files);
                }
                Kind::Regular if holes > hole_bytes_left => {
                    return scan.skip(&entry(), Skip::Sparse, limits.files);
                }
                Kind::Regular => hole_bytes_left -= holes,
            }
            if !select.hard_links {
                hard_links.count(&status);
            }
            scan.files.push(ScannedFile { name: entry(), stamp: status.stamp, links: status.links });
            if scan.files.len() > limits.files.saturating_mul(2) {
                scan.cut(limits.files, is_known);
            }
        })?;
        if !matches {
            unmatched.push(Unmatched { path: root.at.path().to_owned(), names: others });
        }
    }
    let awaited =
        roots.awaited.iter().map(|path| Unmatched { path: path.clone(), names: OtherNames::NoDirectory });
    scan.unmatched = unmatched.into_iter().chain(awaited).collect();
    hard_links.count_other_names(roots, select)?;
    let outside: Vec<ScannedFile> =
        scan.files.extract_if(.., |file| hard_links.is_outside(&file.stamp)).collect();
    for file in outside {
        scan.skip(&file.name, Skip::HardLink, limits.files);
    }
    scan.cut(limits.files, is_known);
    scan.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scan)
}

impl Scan {
    /// Counts a skipped file, and remembers up to `names_max` names: strangers may plant any number.
    fn skip(&mut self, name: &[u8], skip: Skip, names_max: usize) {
        *self.counts.entry(skip).or_default() += 1;
        if self.skipped.len() < names_max {
            self.skipped.insert(name.to_vec(), skip);
        }
    }

    fn cut(&mut self, files_max: usize, is_known: &dyn Fn(&FileStamp) -> bool) {
        if self.files.len() <= files_max {
            return;
        }
        self.files.sort_by_cached_key(|file| (!is_known(&file.stamp), file.name.clone()));
        for file in self.files.split_off(files_max) {
            self.skip(&file.name, Skip::TooMany, files_max);
        }
    }
}
