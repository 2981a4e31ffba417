//! Syncs names, and checks that a successful sync can be believed.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes changes of names in a directory survive a power loss.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a file's name survive a power loss.
pub fn sync_name(dir: &Path, file: &File) -> io::Result<()> {
    sync_directory(dir)?;
    still_takes_changes(file)
}

/// Checks after a sync that it can be believed. After an error, ext4 gives up its journal and becomes
/// read-only some milliseconds later. In between, changes of names and sizes are lost although fsync
/// succeeds. ext4 never resumes the journal. If it accepts a change now, it kept all changes made before the
/// sync.
///
/// The change is a truncation to the present size. ext4 opens a transaction for it and reports an error if it
/// cannot. For new times it would report none. `file` must not grow meanwhile.
pub fn still_takes_changes(file: &File) -> io::Result<()> {
    file.set_len(file.metadata()?.len())
}
