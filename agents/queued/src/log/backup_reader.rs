//! Reads a backup: a head, then the segments that it names.

use super::LogError;
use super::head::{self, Head};
use super::reading::LogSource;
use super::segment;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

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

/// Reads the head of a backup; returns it with the segments, which are read one after the other.
pub fn segments<'a, R: Read>(
    archive: &'a mut tar::Archive<R>,
    path: &'a Path,
) -> Result<(Head, LogSource<'a>), LogError> {
    let no_backup = move |why: String| LogError::NoBackup { path: path.to_owned(), why };
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
    let next = move |bytes: &mut Vec<u8>| {
        let Some(entry) = entries.next() else { return Ok(None) };
        let mut entry = entry.map_err(LogError::io("read", path))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let number = segment::number_of(&name)
            .ok_or_else(|| no_backup(format!("it holds {name:?}, which is not a segment")))?;
        bytes.clear();
        entry.read_to_end(bytes).map_err(LogError::io("read", path))?;
        Ok(Some(number))
    };
    let (place, last) = (path.to_owned(), Some(head.newest));
    Ok((head, LogSource { place, head: Some(head), last, next: Box::new(next) }))
}
