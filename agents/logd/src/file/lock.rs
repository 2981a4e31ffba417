//! One writer: who else wants to write the same file is told who does already.

use kit::exit::{Exit, Fatal};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Holds it for as long as the file that is returned is open. A file of its own: the log's own inode changes with every rotation.
pub fn take(path: &Path) -> Result<File, Fatal> {
    let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
    let lock_path = path.with_file_name(name);
    let refused =
        |e: io::Error| Fatal::new(Exit::Failure, format!("cannot lock {}", lock_path.display())).because(e);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(&lock_path)
        .map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let path = path.display();
            let holder = holder.trim();
            return Err(Fatal::new(
                Exit::TryAgain,
                format!("another logd (process {holder}) writes {path}; stop it or choose another --file"),
            ));
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(refused(e)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(refused)?;
    Ok(file)
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
