//! A lock file for one process at a time, with the name of its holder.

use crate::lifecycle::identity::Identity;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The longest text that a holder writes about itself.
const NAME_BYTES_MAX: u64 = 300;

/// The lock, held until this value is dropped or the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// The error when the lock cannot be taken.
#[derive(Debug)]
pub enum Refused {
    Held(Holder),
    Io(io::Error),
}

/// Names the holder in a sentence about "another agent": ` (process 7 on web-1)`, or nothing if it is not
/// known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(Option<String>);

impl Lock {
    /// Takes the lock file at `path` and creates it if it is missing.
    pub fn at(path: &Path, mode: u32) -> Result<Lock, Refused> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(mode);
        options.custom_flags(nix::libc::O_NOFOLLOW);
        Lock::take(options.open(path).map_err(Refused::Io)?)
    }

    /// Prevents others from taking the lock file at `path`, without writing to it. Returns `None` if there is
    /// no such file. Many processes may share it.
    pub fn shared(path: &Path) -> Result<Option<Lock>, Refused> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_NOFOLLOW);
        let mut file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Refused::Io(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Lock { file })),
            Err(TryLockError::WouldBlock) => Err(Refused::Held(Holder::read(&mut file))),
            Err(TryLockError::Error(error)) => Err(Refused::Io(error)),
        }
    }

    /// Locks `file`, which is open for reading and writing and used only as a lock.
    pub fn take(mut file: File) -> Result<Lock, Refused> {
        match file.try_lock() {
            Ok(()) => {
                let lock = Lock { file };
                // The lock is held even if this fails: a full disk stops nobody from working.
                let _ = lock.say_who();
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(Refused::Held(Holder::read(&mut file))),
            Err(TryLockError::Error(error)) => Err(Refused::Io(error)),
        }
    }

    fn say_who(&self) -> io::Result<()> {
        let name = format!("process {} on {}\n", std::process::id(), Identity::of_this_process().name);
        self.file.set_len(0)?;
        self.file.write_all_at(name.as_bytes(), 0)
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Holder {
    fn read(file: &mut File) -> Holder {
        let mut said = Vec::new();
        let _ = file.take(NAME_BYTES_MAX).read_to_end(&mut said);
        let line = String::from_utf8_lossy(&said);
        let line: String =
            line.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        Holder(Some(line).filter(|line| !line.is_empty()))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, " ({name})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: &Path) -> String {
        match Lock::at(path, 0o600) {
            Err(Refused::Held(holder)) => holder.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn second_holder_learns_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Lock::at(&path, 0o600).unwrap();
        assert!(held(&path).starts_with(&format!(" (process {} on ", std::process::id())));
        drop(first);
        Lock::at(&path, 0o600).unwrap();
    }

    #[test]
    fn holder_is_one_short_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _first = Lock::at(&path, 0o600).unwrap();
        for (said, shown) in [("", String::new()), ("7\u{1b}[31m\nmore", " (7[31m)".to_owned())] {
            std::fs::write(&path, said).unwrap();
            assert_eq!(held(&path), shown);
        }
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        assert_eq!(held(&path).len(), 300 + " ()".len());
    }
}
