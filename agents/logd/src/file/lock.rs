//! The lock that allows only one logd to write a file. Another one that wants the file learns who holds it.

use crate::file::write_error::WriteError;
use kit::disk::inode::Inode;
use kit::disk::lock::{Lock, Refused};
use kit::exit::{Exit, Fatal};
use std::io;
use std::path::{Path, PathBuf};

/// Takes the lock, which is a file of its own: the log's own inode changes with every rotation.
pub fn take(path: &Path) -> Result<Lock, Fatal> {
    let lock_path = path_of(path);
    Lock::at(&lock_path, 0o644).map_err(|refused| match refused {
        Refused::Held(holder) => Fatal::new(
            Exit::TryAgain,
            format!("another logd{holder} writes {}; stop it or choose another --file", path.display()),
        ),
        Refused::Io(e) => {
            Fatal::new(Exit::Failure, format!("cannot lock {}", lock_path.display())).because(e)
        }
    })
}

/// Takes the lock again for a running daemon. While another process holds it, the daemon retries.
pub fn take_again(path: &Path) -> Result<Lock, WriteError> {
    take(path).map_err(|fatal| match fatal.exit() {
        Exit::TryAgain => WriteError::OtherWriter(fatal.one_line()),
        _ => WriteError::NoName(io::Error::other(fatal.one_line())),
    })
}

/// True if the lock keeps others from writing `path`. A lock whose file was removed keeps nobody out.
pub fn is_in_place(lock: &Lock, path: &Path) -> bool {
    Inode::of(lock.file()).is_ok_and(|inode| inode.is_at(&path_of(path)))
}

fn path_of(path: &Path) -> PathBuf {
    let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_writer_learns_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node_log");
        let first = take(&path).unwrap();
        let fatal = take(&path).unwrap_err();
        assert_eq!(fatal.exit(), Exit::TryAgain);
        assert!(fatal.one_line().contains(&format!("process {}", std::process::id())), "{fatal}");
        drop(first);
        take(&path).unwrap();
    }
}
