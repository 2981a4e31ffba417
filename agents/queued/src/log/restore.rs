//! `queued restore`: makes a data directory from a backup.

use super::check::say;
use super::directory::Directory;
use super::{LogError, backup_reader, head, if_exists, reading, segment};
use kit::disk::draft::Draft;
use kit::exit::{Exit, Fatal};
use std::io::{self, Write};
use std::path::Path;

/// Makes a data directory from a backup. The head comes first: with it the server does not start before
/// everything is restored.
pub fn restore(path: &Path, data: &Path) -> Result<(), Fatal> {
    let mut archive = tar::Archive::new(backup_reader::open(path)?);
    let (head, mut segments) = backup_reader::segments(&mut archive, path)?;
    refuse_unless_empty(data)?;
    let _directory = Directory::lock(data)?;
    write(&head::path(data), &head.file())?;
    let mut bytes = Vec::new();
    while let Some(number) = (segments.next)(&mut bytes)? {
        write(&segment::path(data, number), &bytes)?;
    }
    let found = reading::read(data, 0, 1)?.ok_or_else(|| LogError::NoLog(data.to_owned()))?;
    let items: u64 = found.core.usage.items;
    say(&format!("restored to {} (items: {items}, queues: {})", data.display(), found.core.queue_count()));
    Ok(())
}

fn refuse_unless_empty(data: &Path) -> Result<(), Fatal> {
    let entries = if_exists(std::fs::read_dir(data)).map_err(LogError::io("list", data))?;
    // A new ext4 filesystem already has a `lost+found`.
    let is_content =
        |entry: io::Result<std::fs::DirEntry>| entry.map_or(true, |e| e.file_name() != "lost+found");
    if entries.into_iter().flatten().any(is_content) {
        let why = format!("{} is not empty; restore into an empty directory", data.display());
        return Err(Fatal::new(Exit::Failure, why));
    }
    Ok(())
}

/// Writes a file that survives a power loss.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let write = || {
        let mut draft = Draft::public(path)?;
        draft.write_all(bytes)?;
        draft.finish()
    };
    write().map_err(LogError::io("write", path))
}
