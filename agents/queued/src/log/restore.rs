//! `queued restore`: makes a data directory from a backup.

use super::backup_reader::{BackupReader, open};
use super::check::say;
use super::directory::Directory;
use super::reading::{self, SegmentSource};
use super::{LogError, head, if_exists, segment};
use kit::exit::{Exit, Fatal};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Makes a data directory from a backup. The head comes first: with it the server does not start before
/// everything is restored.
pub fn restore(path: &Path, data: &Path) -> Result<(), Fatal> {
    let mut archive = tar::Archive::new(open(path)?);
    let mut backup = BackupReader::open(&mut archive, path)?;
    refuse_unless_empty(data)?;
    let directory = Directory::lock(data)?;
    unpack(&mut backup, directory.path())?;
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

fn unpack<R: Read>(backup: &mut BackupReader<'_, R>, data: &Path) -> Result<(), LogError> {
    let write = |path: &Path, bytes: &[u8]| {
        let write = || {
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            segment::sync_name(data, &file)
        };
        write().map_err(LogError::io("write", path))
    };
    write(&head::path(data), &backup.head.file())?;
    let mut bytes = Vec::new();
    while let Some(number) = backup.next(&mut bytes)? {
        write(&segment::path(data, number), &bytes)?;
    }
    Ok(())
}
