//! The files of the log at one moment, also while they are rotated and compressed.

use crate::file::logrotate::{self, LogrotateFile};
use crate::file::rotated;
use kit::disk::inode::Inode;
use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The rotated files and the current one, seen at one moment.
pub(super) struct Snapshot {
    /// Files moved away by logrotate, kept open since their names change with each rotation.
    by_logrotate: Vec<(LogrotateFile, File)>,
    rotated: Vec<(u64, PathBuf)>,
    pub(super) newest_number: u64,
    pub(super) current: File,
}

impl Snapshot {
    /// Looks again until two looks in a row agree, since files may be rotated and compressed meanwhile, by
    /// the daemon or by logrotate.
    pub(super) fn take(path: &Path) -> io::Result<Snapshot> {
        let mut before = (numbered(path)?, logrotate::list(path)?);
        let mut tries_left = 1000;
        loop {
            let current = File::open(path);
            let by_logrotate = logrotate::open_all(&before.1)?;
            let now = (numbered(path)?, logrotate::list(path)?);
            let agreed =
                now.0.iter().map(|(n, _)| n).eq(before.0.iter().map(|(n, _)| n)) && now.1 == before.1;
            match (current, by_logrotate) {
                (Ok(current), Some(files)) if agreed => {
                    let (rotated, listed) = now;
                    let newest_number = rotated.last().map_or(0, |(number, _)| *number);
                    let by_logrotate = listed.into_iter().zip(files).collect();
                    return Ok(Snapshot { by_logrotate, rotated, newest_number, current });
                }
                // During each rotation there is briefly no file under the name.
                (Err(e), _) if e.kind() != ErrorKind::NotFound || tries_left == 0 => return Err(e),
                _ if tries_left == 0 => {
                    return Err(io::Error::other("it is rotated faster than it can be read"));
                }
                _ => {}
            }
            before = now;
            tries_left -= 1;
            std::thread::yield_now();
        }
    }

    /// Takes logrotate's files, all of them.
    pub(super) fn take_by_logrotate(&mut self) -> Vec<(File, bool)> {
        std::mem::take(&mut self.by_logrotate)
            .into_iter()
            .map(|(listed, file)| (file, listed.compressed))
            .collect()
    }

    /// Takes logrotate's files that are newer than `read`, a file that was read to its end.
    pub(super) fn take_by_logrotate_after(&mut self, read: &File) -> io::Result<Vec<(File, bool)>> {
        let inode = Inode::of(read)?;
        let skip = match self.by_logrotate.iter().position(|(file, _)| file.inode == inode) {
            Some(at) => at + 1,
            None => self.first_written_after(read.metadata()?.modified()?)?,
        };
        Ok(self.take_by_logrotate().split_off(skip))
    }

    /// Finds the first file whose last line is newer than `time`. Compression changes a file's inode but
    /// keeps its time. So a file with exactly this time is the compressed copy of the one that was read.
    fn first_written_after(&self, time: SystemTime) -> io::Result<usize> {
        for (at, (_, file)) in self.by_logrotate.iter().enumerate() {
            match file.metadata()?.modified()?.cmp(&time) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(at + 1),
                Ordering::Greater => return Ok(at),
            }
        }
        Ok(self.by_logrotate.len())
    }

    pub(super) fn rotated_after(&self, number: u64) -> Vec<(u64, PathBuf)> {
        self.rotated.iter().filter(|(n, _)| *n > number).cloned().collect()
    }

    pub(super) fn is_current(&self, path: &Path) -> bool {
        let same = || -> io::Result<bool> { Ok(Inode::of(&self.current)? == Inode::at(path)?) };
        // The file is missing between the two steps of a rotation: look again later.
        same().unwrap_or(true)
    }

    pub(super) fn was_truncated(&mut self) -> io::Result<bool> {
        let position = io::Seek::stream_position(&mut self.current)?;
        Ok(self.current.metadata()?.len() < position)
    }
}

fn numbered(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let rotated = rotated::list(path)?;
    Ok(rotated.into_iter().map(|file| (file.number, path.with_file_name(file.name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    #[test]
    fn file_between_two_rotations_is_not_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let name = |name: &str| directory.path().join(name);
        std::fs::write(name("node_log"), "read\n").unwrap();
        let before = Snapshot::take(&name("node_log")).unwrap();
        let written = before.current.metadata().unwrap().modified().unwrap();
        // logrotate compresses the file that was read and rotates another one before the next look.
        let copy = File::create(name("node_log.2.gz")).unwrap();
        copy.set_modified(written).unwrap();
        std::fs::remove_file(name("node_log")).unwrap();
        let between = File::create(name("node_log.1")).unwrap();
        (&between).write_all(b"between\n").unwrap();
        between.set_modified(written + Duration::from_secs(1)).unwrap();
        std::fs::write(name("node_log"), "now\n").unwrap();
        let mut after = Snapshot::take(&name("node_log")).unwrap();
        let mut text = String::new();
        for (mut file, _) in after.take_by_logrotate_after(&before.current).unwrap() {
            file.read_to_string(&mut text).unwrap();
        }
        assert_eq!(text, "between\n");
    }
}
