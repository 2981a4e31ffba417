//! The data directory: locks it for one process, and checks that its path still leads to it.

use super::LogError;
use kit::disk::inode::Inode;
use kit::disk::lock::{Lock, Refused};
use std::io;
use std::path::{Path, PathBuf};

pub const LOCK: &str = "lock";

/// A directory that only this process may use.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The directory and its lock file, as they were when it was locked.
    opened: [Inode; 2],
    _lock: Lock,
}

impl Directory {
    /// Creates the directory if it does not exist, and locks it for this process.
    pub fn lock(path: &Path) -> Result<Directory, LogError> {
        std::fs::create_dir_all(path).map_err(LogError::io("make", path))?;
        let lock = path.join(LOCK);
        let held = Lock::at(&lock, 0o644).map_err(|refused| refusal(refused, path))?;
        let opened = Directory::inodes(path).map_err(LogError::io("look at", path))?;
        Ok(Directory { path: path.to_owned(), opened, _lock: held })
    }

    fn inodes(path: &Path) -> io::Result<[Inode; 2]> {
        Ok([Inode::at(path)?, Inode::at(&path.join(LOCK))?])
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails while the path leads to another directory or to none: anything written then may be lost.
    pub fn check(&self) -> Result<(), LogError> {
        let gone = |why: String| LogError::Gone { dir: self.path.clone(), why };
        match Directory::inodes(&self.path) {
            Ok(found) if found == self.opened => Ok(()),
            Ok(_) => Err(gone("another directory is in its place".to_owned())),
            Err(error) => Err(gone(error.to_string())),
        }
    }
}

/// Locks the directory against writers without writing anything. `None` if no queued has ever written to it.
pub fn hold_for_reading(path: &Path) -> Result<Option<Lock>, LogError> {
    Lock::shared(&path.join(LOCK)).map_err(|refused| match refused {
        Refused::Held(holder) => LogError::Busy { dir: path.to_owned(), holder },
        refused => refusal(refused, path),
    })
}

fn refusal(refused: Refused, dir: &Path) -> LogError {
    match refused {
        Refused::Held(holder) => LogError::InUse { dir: dir.to_owned(), holder },
        Refused::Io(error) => LogError::io("lock", &dir.join(LOCK))(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_gone_until_the_same_one_is_back() {
        let parent = tempfile::tempdir().unwrap();
        let (path, aside) = (parent.path().join("data"), parent.path().join("aside"));
        let held = Directory::lock(&path).unwrap();
        held.check().unwrap();
        std::fs::rename(&path, &aside).unwrap();
        let why = held.check().unwrap_err().to_string();
        assert!(why.contains("data") && why.contains("No such file"), "{why}");
        let other = Directory::lock(&path).unwrap();
        let why = held.check().unwrap_err().to_string();
        assert!(why.contains("another directory is in its place"), "{why}");
        drop(other);
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        held.check().unwrap();
        std::fs::remove_file(path.join(LOCK)).unwrap();
        assert!(held.check().is_err(), "what is in it was removed");
    }

    #[test]
    fn readers_write_nothing_and_exclude_the_writer() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        std::fs::create_dir(&path).unwrap();
        assert!(hold_for_reading(&path).unwrap().is_none());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        let held = Directory::lock(&path).unwrap();
        assert!(matches!(hold_for_reading(&path), Err(LogError::Busy { .. })));
        drop(held);
        let readers = [hold_for_reading(&path).unwrap(), hold_for_reading(&path).unwrap()];
        assert!(readers.iter().all(Option::is_some));
        assert!(matches!(Directory::lock(&path), Err(LogError::InUse { .. })));
    }
}
