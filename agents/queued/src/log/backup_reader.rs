//! Reads a backup: a head, then the segments that it names.

use super::LogError;
use super::head::{self, Head};
use super::reading::SegmentSource;
use super::segment;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// True for the name that stands for stdin or stdout.
pub(super) fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens a backup, or stdin for `-`.
pub fn open(path: &Path) -> Result<Box<dyn Read>, LogError> {
    if is_stream(path) {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LogError::NoBackup { path: path.to_owned(), why: error.to_string() },
        _ => LogError::io("open", path)(error),
    })?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)))
}

/// The segments of a backup, read one after the other.
pub struct BackupReader<'a, R: Read> {
    path: PathBuf,
    pub(super) head: Head,
    entries: tar::Entries<'a, R>,
}

impl<'a, R: Read> BackupReader<'a, R> {
    pub fn open(archive: &'a mut tar::Archive<R>, path: &Path) -> Result<BackupReader<'a, R>, LogError> {
        let no_backup = |why: String| LogError::NoBackup { path: path.to_owned(), why };
        let unreadable = |error: io::Error| no_backup(error.to_string());
        let mut entries = archive.entries().map_err(unreadable)?;
        let first = entries.next().ok_or_else(|| no_backup("it is empty".to_owned()))?;
        let mut first = first.map_err(unreadable)?;
        if first.path_bytes() != head::NAME.as_bytes() {
            return Err(no_backup("it does not begin with a head".to_owned()));
        }
        let mut bytes = Vec::new();
        first.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        let (_, head) = Head::in_file(&bytes, path)?;
        Ok(BackupReader { path: path.to_owned(), head, entries })
    }
}

impl<R: Read> SegmentSource for BackupReader<'_, R> {
    fn place(&self) -> &Path {
        &self.path
    }

    fn head(&self) -> Option<Head> {
        Some(self.head)
    }

    fn last(&self) -> Option<u32> {
        Some(self.head.newest)
    }

    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<u32>, LogError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        let mut entry = entry.map_err(LogError::io("read", &self.path))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let number = segment::number_of(&name).ok_or_else(|| LogError::NoBackup {
            path: self.path.clone(),
            why: format!("it holds {name:?}, which is not a segment"),
        })?;
        bytes.clear();
        entry.read_to_end(bytes).map_err(LogError::io("read", &self.path))?;
        Ok(Some(number))
    }
}
