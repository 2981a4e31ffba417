//! A file that replaces an older one once it is complete.

use super::sync::sync_name;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The new content, in a file next to the older one. Its name has `.new` at the end. It is removed unless it
/// is finished.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    to: PathBuf,
    is_finished: bool,
}

impl Draft {
    /// Creates the draft of a file that only the owner may read: its content may be secret.
    pub fn of(to: &Path) -> io::Result<Draft> {
        Draft::create(to, 0o600)
    }

    /// Creates the draft of a file that others may read, too, unless the umask forbids it.
    pub fn public(to: &Path) -> io::Result<Draft> {
        Draft::create(to, 0o666)
    }

    fn create(to: &Path, mode: u32) -> io::Result<Draft> {
        let mut path = to.as_os_str().to_owned();
        path.push(".new");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(mode);
        let file = options.open(&path)?;
        Ok(Draft { file, path, to: to.to_owned(), is_finished: false })
    }

    /// Returns the file, which is open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Replaces the older file. Its content and name survive a power loss then.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, &self.to)?;
        self.is_finished = true;
        sync_name(directory_of(&self.to), &self.file)
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
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
