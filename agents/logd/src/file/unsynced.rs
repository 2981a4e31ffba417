//! Keeps the files and directories that the next sync must write, so that everything appended so far is safe.

use crate::file::lock;
use crate::file::write_error::WriteError;
use kit::disk::free_space::Space;
use kit::disk::inode::Inode;
use kit::disk::lock::Lock;
use kit::disk::sync::still_takes_changes;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Rotated files that a failed sync leaves for the next one. While syncs keep failing, each rotation would
/// otherwise keep one more file open. The failure was reported for the files above the bound: no connection
/// with lines in them gets a receipt.
const RETRIED_FILES_MAX: usize = 64;

/// One sync, ready to run.
#[derive(Debug)]
pub struct FileSync {
    includes: Includes,
    lock: Arc<Lock>,
}

/// Files whose last bytes may not be on the disk yet, and the directory when an entry in it may be new.
#[derive(Clone, Debug, Default)]
struct Includes {
    files: Vec<Arc<File>>,
    directory: Option<Arc<File>>,
}

impl FileSync {
    /// Blocks until everything is on the disk.
    pub fn run(&self) -> io::Result<()> {
        let Includes { files, directory } = &self.includes;
        files.iter().try_for_each(|file| file.sync_data())?;
        // Data alone is not enough: on ext4 fdatasync leaves a new entry for later, and the file has no name
        // after a power loss.
        directory.iter().try_for_each(|directory| directory.sync_all())?;
        still_takes_changes(self.lock.file())
    }
}

/// Everything besides the open file that a sync must still write: rotated files, and the directory.
#[derive(Debug)]
pub struct Unsynced {
    directory: Arc<File>,
    /// Held for as long as this process writes the file.
    lock: Arc<Lock>,
    /// Rotated files, and the directory, that the next sync must include.
    next: Includes,
    under_way: Includes,
    /// False if no sync will ever be requested.
    syncs: bool,
}

impl Unsynced {
    /// Starts with the directory unsynced, since the open file's entry in it may be new.
    pub fn new(directory: File, files: Vec<Arc<File>>, lock: Lock) -> Unsynced {
        let directory = Arc::new(directory);
        let next = Includes { files, directory: Some(directory.clone()) };
        Unsynced { directory, lock: Arc::new(lock), next, under_way: Includes::default(), syncs: true }
    }

    pub fn never(&mut self) {
        self.syncs = false;
        self.next = Includes::default();
    }

    /// Records that another file took the place of `old`.
    pub fn replaced(&mut self, old: Arc<File>) {
        if self.syncs {
            self.next.files.push(old);
            self.next.directory = Some(self.directory.clone());
        }
    }

    /// Records that another directory took the place of the file's directory, and that `lock` lies in it.
    pub fn moved(&mut self, directory: File, lock: Lock) {
        self.directory = Arc::new(directory);
        self.lock = Arc::new(lock);
    }

    /// True if `path` leads to the directory that the file was made in.
    pub fn directory_is_at(&self, path: &Path) -> bool {
        Inode::of(&self.directory).is_ok_and(|inode| inode.is_at(path))
    }

    /// Returns the free space where the file is.
    pub fn space(&self) -> io::Result<Space> {
        Space::of(&*self.directory)
    }

    /// Locks the file `path` again if somebody removed the lock. Fails if another logd was faster.
    pub fn keep_lock(&mut self, path: &Path) -> Result<(), WriteError> {
        if lock::is_in_place(&self.lock, path) {
            return Ok(());
        }
        match lock::take_again(path) {
            Ok(lock) => {
                tracing::warn!(
                    event = "lock_recreated",
                    path = %path.display(),
                    "the lock of the file was removed, made a new one"
                );
                self.lock = Arc::new(lock);
                Ok(())
            }
            // If this process cannot make a lock, other processes hardly can.
            Err(WriteError::NoName(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }

    pub fn begin(&mut self, open: Arc<File>) -> FileSync {
        // A sync that was given up has not failed: everything is repeated.
        let abandoned = std::mem::take(&mut self.under_way);
        self.repeat(abandoned);
        self.under_way = std::mem::take(&mut self.next);
        self.under_way.files.push(open);
        FileSync { includes: self.under_way.clone(), lock: self.lock.clone() }
    }

    /// Ends the sync. A failed one may have skipped some files, so the next must include them again.
    pub fn end(&mut self, succeeded: bool) {
        let mut tried = std::mem::take(&mut self.under_way);
        if !succeeded {
            let excess = tried.files.len().saturating_sub(RETRIED_FILES_MAX + 1);
            tried.files.drain(..excess);
            self.repeat(tried);
        }
    }

    /// Includes the files of a sync in the next one, oldest first.
    fn repeat(&mut self, mut tried: Includes) {
        tried.files.pop(); // the open file is included anyway, or was rotated since
        tried.files.append(&mut self.next.files);
        self.next.files = tried.files;
        self.next.directory = self.next.directory.take().or(tried.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_sync_is_repeated_whole() {
        let file = || tempfile::tempfile().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::at(&directory.path().join("lock"), 0o600).unwrap();
        let mut unsynced = Unsynced::new(file(), Vec::new(), lock);
        let (first, second) = (Arc::new(file()), Arc::new(file()));
        let what = |FileSync { includes, .. }| (includes.files.len(), includes.directory.is_some());
        assert_eq!(what(unsynced.begin(first.clone())), (1, true), "its entry is new");
        unsynced.replaced(first);
        for _ in 0..2 {
            unsynced.end(false);
            assert_eq!(what(unsynced.begin(second.clone())), (2, true));
        }
        assert_eq!(what(unsynced.begin(second.clone())), (2, true), "after one that was given up");
        unsynced.end(true);
        assert_eq!(what(unsynced.begin(second)), (1, false));
    }

    #[test]
    fn failing_syncs_keep_few_files_open() {
        let file = || Arc::new(tempfile::tempfile().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::at(&directory.path().join("lock"), 0o600).unwrap();
        let mut unsynced = Unsynced::new(tempfile::tempfile().unwrap(), Vec::new(), lock);
        let mut open = file();
        for _ in 0..2 * RETRIED_FILES_MAX {
            drop(unsynced.begin(open.clone()));
            unsynced.end(false);
            let next = file();
            unsynced.replaced(std::mem::replace(&mut open, next));
        }
        let FileSync { includes, .. } = unsynced.begin(open.clone());
        assert_eq!(
            includes.files.len(),
            RETRIED_FILES_MAX + 2,
            "and the last rotated file, and the open one"
        );
        assert!(Arc::ptr_eq(&includes.files[RETRIED_FILES_MAX + 1], &open));
    }
}
