//! Visits the names in the log directories, one by one: strangers may plant any number of them.

use crate::error::ArchiveError;
use crate::logs::directories::{Root, Roots};
use crate::safe_dir::{Kind, SafeDir, status_at};
use nix::dir::{Dir, Entry, Type};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Maximum depth, because strangers may nest directories without end.
const DEPTH_MAX: usize = 32;

/// Visits every name with its directory.
pub fn each_name(
    roots: &Roots,
    recursive: bool,
    visit: &mut dyn FnMut(&OwnedFd, &OsStr),
) -> Result<(), ArchiveError> {
    roots
        .open
        .iter()
        .try_for_each(|root| walk(root, recursive, &mut |directory, name, _| visit(directory, name.last)))
}

/// A name below the log directory, and its last component.
pub struct Name<'a> {
    pub path: &'a [u8],
    pub last: &'a OsStr,
}

pub type Visit<'a> = dyn FnMut(&OwnedFd, &Name<'_>, u64) + 'a;

/// Visits every name, in subdirectories too if `recursive`.
pub fn walk(root: &Root, recursive: bool, visit: &mut Visit<'_>) -> Result<(), ArchiveError> {
    let root: &SafeDir = &root.at;
    let mut above = vec![(Vec::new(), 0)];
    while let Some((path, depth)) = above.pop() {
        let shown = root.path().join(OsStr::from_bytes(&path));
        // Names are read one by one, never all into memory.
        let opened = root.directory(&path).and_then(|fd| Ok((Dir::from_fd(fd.try_clone()?)?, fd)));
        let (mut names, directory) = match opened {
            Ok(opened) => opened,
            Err(error) if depth == 0 => {
                return Err(ArchiveError::on("open the log directory", &shown)(error));
            }
            // Deleted or replaced since its name was read.
            Err(_) => continue,
        };
        for entry in names.iter().filter_map(Result::ok) {
            let last = OsStr::from_bytes(entry.file_name().to_bytes());
            if [".", ".."].map(OsStr::new).contains(&last) || depth == 0 && is_ours(last.as_bytes()) {
                continue;
            }
            let below = match path.as_slice() {
                [] => last.as_bytes().to_vec(),
                path => [path, b"/", last.as_bytes()].concat(),
            };
            visit(&directory, &Name { path: &below, last }, entry.ino());
            if recursive && depth < DEPTH_MAX && is_directory(&directory, &entry) {
                above.push((below, depth + 1));
            }
        }
    }
    Ok(())
}

fn is_directory(parent: &OwnedFd, entry: &Entry) -> bool {
    match entry.file_type() {
        Some(kind) => kind == Type::Directory,
        // Some file systems do not report the type.
        None => {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            status_at(parent, name).is_ok_and(|status| status.kind == Kind::Directory)
        }
    }
}

/// True for files that logcd writes itself, which are never archived.
pub fn is_ours(name: &[u8]) -> bool {
    [&b".all-logs-"[..], b"all-logs-", b".logcd."].iter().any(|ours| name.starts_with(ours))
}
