//! A file that replaces an older one once it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Only the owner may read the file: its content may be secret.
const MODE: u32 = 0o600;

/// The new content, in a file of its own beside the older one. Removed if it is dropped before its end.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    to: PathBuf,
    is_finished: bool,
}

impl Draft {
    /// Creates the draft of a file: its name with `.new` at the end.
    pub fn of(to: &Path) -> io::Result<Draft> {
        let mut path = to.as_os_str().to_owned();
        path.push(".new");
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&path)?;
        Ok(Draft { file, path, to: to.to_owned(), is_finished: false })
    }

    /// Replaces the older file, and syncs both content and name.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, &self.to)?;
        self.is_finished = true;
        File::open(directory_of(&self.to))?.sync_all()
    }
}

/// Returns the directory in which a path is.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn older_file_is_replaced_by_a_whole_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("backup");
        std::fs::write(&to, "old").unwrap();
        let mut draft = Draft::of(&to).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(std::fs::read(&to).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut draft = Draft::of(&to).unwrap();
        draft.write_all(b"whole").unwrap();
        draft.finish().unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"whole");
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
