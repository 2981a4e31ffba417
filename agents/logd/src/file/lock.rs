//! One writer: who else wants to write the same file is told who does already.

use kit::exit::{Exit, Fatal};
use kit::lock::{Lock, Refused};
use std::path::Path;

/// In a file of its own: the log's own inode changes with every rotation.
pub fn take(path: &Path) -> Result<Lock, Fatal> {
    let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
    let lock_path = path.with_file_name(name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_told_who_the_first_is() {
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
