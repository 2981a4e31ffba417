//! `--remove-after`: deletes logs that are old enough and safe in an archive.

use crate::archive::entry::{Entry, Origin};
use crate::archive::file_stamp::FileStamp;
use crate::error::ArchiveError;
use crate::logs::directories::Roots;
use crate::logs::walk::each_name;
use crate::safe_dir::{SafeDir, status_at};
use jiff::Timestamp;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// The suffix of the hidden name of a log that is being deleted. After a crash the log gets its name back.
const ASIDE: &str = ".logcd-removing";
/// The longest name that a file system allows.
const NAME_BYTES_MAX: usize = 255;

/// Lists the entries whose files may be deleted once the archive is verified. These are logs that are archived
/// to their end and old enough, by every time that the file system keeps.
pub fn candidates(
    entries: &[Entry],
    now: Timestamp,
    after: Duration,
) -> impl Iterator<Item = (&Entry, FileStamp)> {
    let before_s = now.as_second().saturating_sub(i64::try_from(after.as_secs()).unwrap_or(i64::MAX));
    entries.iter().filter_map(move |entry| match entry.origin {
        Origin::Live(stamp)
            if !stamp.racy && entry.size() == stamp.size && stamp.mtime.max(stamp.ctime).s < before_s =>
        {
            Some((entry, stamp))
        }
        _ => None,
    })
}

/// Deletes a file if it is still the one that was archived. False if it has changed.
pub fn remove(root: &SafeDir, name: &[u8], archived: &FileStamp) -> io::Result<bool> {
    let slash = name.iter().rposition(|b| *b == b'/');
    let (parent, last) = slash.map_or((&[][..], name), |at| (&name[..at], &name[at + 1..]));
    let (directory, last) = (root.directory(parent)?, OsStr::from_bytes(last));
    let seen = status_at(&directory, last)?.stamp;
    if (seen.ino, seen.size, seen.mtime, seen.ctime)
        != (archived.ino, archived.size, archived.mtime, archived.ctime)
    {
        return Ok(false);
    }
    // Rename the log before it is deleted. If another file has taken its place at this moment, that file gets
    // its name back. The rename sets the file's change time.
    let aside = aside_name(last.as_bytes());
    let aside = OsStr::from_bytes(&aside);
    rename(&directory, last, aside)?;
    let moved = status_at(&directory, aside)?.stamp;
    if (moved.ino, moved.size, moved.mtime) == (archived.ino, archived.size, archived.mtime) {
        unlinkat(&directory, aside, UnlinkatFlags::NoRemoveDir)?;
        return Ok(true);
    }
    rename(&directory, aside, last)?;
    Ok(false)
}

/// Returns the hidden name. A name that is too long is cut at its beginning, because its end identifies it
/// better.
fn aside_name(name: &[u8]) -> Vec<u8> {
    let room = NAME_BYTES_MAX - 1 - ASIDE.len();
    [b".", &name[name.len().saturating_sub(room)..], ASIDE.as_bytes()].concat()
}

/// Gives half-deleted logs their names back after a crash or an error, so that they are archived again.
pub fn put_back(roots: &Roots, recursive: bool) -> Result<(), ArchiveError> {
    each_name(roots, recursive, &mut |directory, aside| {
        let hidden = aside.as_bytes().strip_prefix(b".");
        let Some(name) = hidden.and_then(|name| name.strip_suffix(ASIDE.as_bytes())) else { return };
        // If the name was taken meanwhile, another one with the same end matches as well.
        let put = rename(directory, aside, OsStr::from_bytes(name)).or_else(|_| {
            let ino = status_at(directory, aside)?.stamp.ino;
            let other = [format!("{ino}-").as_bytes(), name].concat();
            rename(directory, aside, OsStr::from_bytes(&other))
        });
        let file = aside.as_bytes().escape_ascii();
        match put {
            Ok(()) => tracing::info!(
                event = "log_restored",
                %file,
                "restored a log whose deletion was interrupted"
            ),
            Err(error) => tracing::warn!(
                event = "log_restore_failed",
                %file,
                %error,
                "cannot restore a log whose deletion was interrupted"
            ),
        }
    })
}

/// Renames, but never over an existing file.
fn rename(directory: &OwnedFd, from: &OsStr, to: &OsStr) -> io::Result<()> {
    Ok(renameat2(directory, from, directory, to, RenameFlags::RENAME_NOREPLACE)?)
}
