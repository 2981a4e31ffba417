//! The log directories: opens them for each look, and maps their files to names in the archive.

use crate::archive::member;
use crate::error::{ArchiveError, REMOVED_BELOW_MOUNT};
use crate::safe_dir::SafeDir;
use nix::unistd::geteuid;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A directory as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    pub path: PathBuf,
    /// The start of the names of its entries; empty for the first directory.
    base: Vec<u8>,
}

impl LogDir {
    /// The first directory, whose files are below the prefix in the archive.
    pub fn first(path: PathBuf) -> LogDir {
        LogDir { path, base: Vec::new() }
    }

    /// A further directory, whose files are below `path_in_archive`.
    pub fn further(path: PathBuf, prefix: &[u8], path_in_archive: &[u8]) -> LogDir {
        LogDir { path, base: member::name(prefix, path_in_archive) }
    }

    fn is_first(&self) -> bool {
        self.base.is_empty()
    }

    /// Opens the directory. Links to the first one were resolved at the start, and later ones are not
    /// followed. A further directory may appear later, also as a link, if root or this user made it.
    fn open(&self) -> io::Result<SafeDir> {
        let opened = if self.is_first() { SafeDir::open(&self.path) } else { open_trusted(&self.path) }?;
        match opened.is_removed()? {
            true => Err(io::Error::other(format!("it was {REMOVED_BELOW_MOUNT}"))),
            false => Ok(opened),
        }
    }
}

fn open_trusted(path: &Path) -> io::Result<SafeDir> {
    let found = path.symlink_metadata()?;
    if found.is_symlink() && found.uid() != 0 && found.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("it is a symbolic link of user {}", found.uid())));
    }
    SafeDir::open(&path.canonicalize()?)
}

/// All directories with logs. Remembers the directories that were there before.
#[derive(Debug)]
pub struct Directories {
    all: Vec<LogDir>,
    seen: Vec<bool>,
}

impl Directories {
    pub fn new(all: Vec<LogDir>) -> Directories {
        let seen = all.iter().map(LogDir::is_first).collect();
        Directories { all, seen }
    }

    /// Opens the directories for a look. A directory that was there before must be there now; one that was
    /// never there may still appear.
    pub fn open(&mut self) -> Result<Roots, ArchiveError> {
        let mut roots = Roots { open: Vec::new(), away: Vec::new(), awaited: Vec::new() };
        let mut failed = None;
        for (dir, seen) in self.all.iter().zip(&mut self.seen) {
            match dir.open() {
                Ok(at) => {
                    *seen = true;
                    roots.open.push(Root { at, base: dir.base.clone() });
                }
                Err(error) if !*seen && error.kind() == io::ErrorKind::NotFound => {
                    roots.awaited.push(dir.path.clone());
                }
                Err(error) => {
                    let error = ArchiveError::on("open the log directory", &dir.path)(error);
                    roots.away.push(Away { base: dir.base.clone(), why: error.one_line() });
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            Some(error) if roots.open.is_empty() => Err(error),
            _ => Ok(roots),
        }
    }
}

/// The directories as they are opened for one look.
#[derive(Debug)]
pub struct Roots {
    pub open: Vec<Root>,
    away: Vec<Away>,
    /// Directories that have not been there yet.
    pub awaited: Vec<PathBuf>,
}

/// An opened directory, and the start of the names of its entries.
#[derive(Debug)]
pub struct Root {
    pub at: SafeDir,
    pub base: Vec<u8>,
}

/// A directory that was there before and cannot be opened now.
#[derive(Debug)]
struct Away {
    base: Vec<u8>,
    why: String,
}

impl Roots {
    /// Returns the directory of an entry, and the path of its file below it.
    pub fn locate<'a>(&self, name: &'a [u8]) -> Option<(&SafeDir, &'a [u8])> {
        let holders = self.open.iter().filter_map(|root| Some((root, name.strip_prefix(&root.base[..])?)));
        // The longest base is the nearest directory.
        let (root, path) = holders.min_by_key(|(_, path)| path.len())?;
        Some((&root.at, path))
    }

    /// True if the entry's file is in a directory that cannot be opened now, so that nothing is known of it.
    pub fn is_away(&self, name: &[u8]) -> bool {
        let nearest = |bases: &mut dyn Iterator<Item = &Vec<u8>>| {
            bases.filter(|base| name.starts_with(base)).map(Vec::len).max()
        };
        let away = nearest(&mut self.away.iter().map(|away| &away.base));
        away.is_some() && away > nearest(&mut self.open.iter().map(|root| &root.base))
    }

    /// The reasons why directories that were there before cannot be opened.
    pub fn complaints(&self) -> Vec<String> {
        self.away.iter().map(|away| away.why.clone()).collect()
    }
}

/// Joins paths for a message.
pub fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
