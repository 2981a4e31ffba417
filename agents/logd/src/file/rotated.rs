//! The rotated files, as they lie beside the one that is written.

use crate::file::mending::mend_end;
use crate::file::rotation::Rotated;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many of the newest rotated files are looked at in the beginning. Where compression lags behind rotation, a power loss may
/// tear many of them; where files are not compressed at all, looking at each of thousands would keep the start waiting.
const MENDED_MAX: usize = 1024;

/// So many of them are kept open for the first sync: older ones were synced by the last run, or written by the system.
const MAYBE_UNSYNCED_MAX: usize = 64;

/// Those of `path`, oldest first. While one is being compressed it is there twice; the
/// uncompressed one is listed.
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

/// What came of mending.
#[derive(Debug, Default)]
pub struct Mended {
    /// Whether there was anything to mend.
    pub torn: bool,
    /// Those that may not be on the disk yet.
    pub unsynced: Vec<Arc<File>>,
}

/// Mends what a crash tore in those of `path`, which were listed, that are still to be compressed.
pub fn mend(path: &Path, listed: &[Rotated]) -> Mended {
    let mut all = Mended::default();
    for rotated in listed.iter().rev().filter(|file| !file.compressed).take(MENDED_MAX) {
        let path = path.with_file_name(&rotated.name);
        match appending().open(&path).and_then(|file| Ok((mend_end(&file)?, file))) {
            Ok((torn, file)) => {
                all.torn |= torn;
                if all.unsynced.len() < MAYBE_UNSYNCED_MAX {
                    all.unsynced.push(Arc::new(file));
                }
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot look after a rotated file");
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

/// How the file is opened, and those that it was.
pub fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Non-blocking: a FIFO in the file's place must be an error, not a hang.
    options.read(true).append(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
    options
}
