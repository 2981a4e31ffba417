//! `tar -x`: unpacks members of an archive below one directory and nowhere else, or to stdout.

use super::arguments::Arguments;
use super::{Failure, complain, of};
use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use tar::{Archive, EntryType, Header};

pub fn unpack(source: Box<dyn Read>, arguments: &Arguments) -> Result<bool, Failure> {
    let failed = || of(arguments.file.display());
    let below = arguments.directory.as_deref().unwrap_or(Path::new("."));
    let mut archive = Archive::new(source);
    archive.set_preserve_mtime(!arguments.touch);
    archive.set_preserve_permissions(arguments.preserve_permissions);
    let mut wanted = Wanted::new(&arguments.members);
    // Directories get their permissions and times when everything in them is unpacked.
    let mut directories = Vec::new();
    let mut refused = false;
    let mut stdout = io::stdout().lock();
    for entry in archive.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        let name = entry.path_bytes().into_owned();
        if !wanted.wants(&name) {
            continue;
        }
        if arguments.verbose > 0 {
            complain(&String::from_utf8_lossy(&name));
        }
        if arguments.to_stdout {
            if entry.header().entry_type() == EntryType::Regular {
                io::copy(&mut entry, &mut stdout).map_err(failed())?;
            }
        } else if entry.header().entry_type() == EntryType::Directory {
            directories.push(entry);
        } else if !entry.unpack_in(below).map_err(of(below.display()))? {
            complain(&format!("{}: would lie outside; not unpacked", name.escape_ascii()));
            refused = true;
        }
    }
    stdout.flush().map_err(of("stdout"))?;
    // Innermost first: unpacking into a directory would change its time.
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut directory in directories {
        if !directory.unpack_in(below).map_err(of(below.display()))? {
            refused = true;
        } else if !arguments.touch {
            restore_time(&below.join(directory.path().map_err(failed())?), directory.header());
        }
    }
    Ok(wanted.all_found() && !refused)
}

/// Restores a directory's time. If its name is a link, the target keeps its own time. Failing is harmless.
fn restore_time(path: &Path, header: &Header) {
    let directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if let (true, Ok(time)) = (directory, header.mtime()) {
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(time));
        let _ = File::open(path).and_then(|directory| directory.set_times(times));
    }
}

/// The requested members: each includes everything below it. An empty list means all.
pub struct Wanted<'a> {
    members: Vec<(&'a Path, bool)>,
}

impl<'a> Wanted<'a> {
    pub fn new(members: &'a [PathBuf]) -> Wanted<'a> {
        Wanted { members: members.iter().map(|member| (member.as_path(), false)).collect() }
    }

    pub fn wants(&mut self, name: &[u8]) -> bool {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        let mut wanted = self.members.is_empty();
        for (member, found) in &mut self.members {
            if name.starts_with(*member) {
                *found = true;
                wanted = true;
            }
        }
        wanted
    }

    /// True if the archive holds all members. Prints those that are missing.
    pub fn all_found(&self) -> bool {
        let missing = self.members.iter().filter(|(_, found)| !found);
        missing
            .inspect(|(member, _)| complain(&format!("{}: not found in archive", member.display())))
            .count()
            == 0
    }
}
