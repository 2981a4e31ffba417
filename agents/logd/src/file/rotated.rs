//! Lists and repairs the rotated files, which are in the same directory as the open file.

use crate::file::repair::repair_end;
use crate::file::rotation::Rotated;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of the newest rotated files that are examined at the start. If compression lags behind rotation, a
/// power loss may tear many of them. If files are never compressed, examining each of thousands would delay
/// the start.
const REPAIRED_MAX: usize = 1024;

/// Number of rotated files kept open for the first sync. Older ones were synced by the last run, or written
/// by the system.
const MAYBE_UNSYNCED_MAX: usize = 64;

/// Lists the rotated files of `path`, oldest first. A file under compression exists twice; only the
/// uncompressed copy is listed.
pub fn list(path: &Path) -> io::Result<Vec<Rotated>> {
    let base = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let bytes = entry.metadata().map_or(0, |m| m.len());
        found.extend(Rotated::parse(&base, &entry.file_name().to_string_lossy(), bytes));
    }
    found.sort_by_key(|file| (file.number, file.compressed));
    found.dedup_by_key(|file| file.number);
    Ok(found)
}

/// The result of repairing the rotated files.
#[derive(Debug, Default)]
pub struct Repaired {
    /// True if a file was repaired.
    pub torn: bool,
    /// Files that may not be on the disk yet.
    pub unsynced: Vec<Arc<File>>,
}

/// Repairs the ends of the `listed` files of `path` that are not compressed yet.
pub fn repair(path: &Path, listed: &[Rotated]) -> Repaired {
    let mut all = Repaired::default();
    for rotated in listed.iter().rev().filter(|file| !file.compressed).take(REPAIRED_MAX) {
        let path = path.with_file_name(&rotated.name);
        match appending().open(&path).and_then(|file| Ok((repair_end(&file)?, file))) {
            Ok((torn, file)) => {
                all.torn |= torn;
                if all.unsynced.len() < MAYBE_UNSYNCED_MAX {
                    all.unsynced.push(Arc::new(file));
                }
            }
            Err(error) => {
                tracing::warn!(
                    event = "housekeeping_failed",
                    path = %path.display(),
                    %error,
                    "cannot check a rotated file"
                );
            }
        }
    }
    all
}

/// The directory that holds `path`.
pub fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Opens the log and its rotated files for appending.
pub fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Non-blocking: a FIFO in the file's place must be an error, not a hang.
    options.read(true).append(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
    options
}
