//! The files from which lines are read: the archives with their members, and the live logs.

use super::reading_order::Beginnings;
use crate::logs::log_file::read_full_at;
use crate::pods::followed_log::ENTRY_BYTES_MAX;
use crate::pods::hour::ArchiveName;
use crate::pods::hour_archive::{draft_name, is_no_file};
use crate::pods::place::ContainerDir;
use crate::safe_dir::{SafeDir, status_of};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

/// Limit on a line. A longer one is cut, as in archives.
pub(super) const LINE_BYTES_MAX: usize = ENTRY_BYTES_MAX;

pub(super) enum LineSource {
    /// An archive that is not reached yet. A month of archives has too many members to keep them all.
    Archive {
        archive: Rc<FoundArchive>,
        later: Beginnings,
    },
    Member {
        archive: Rc<FoundArchive>,
        place: Range<u64>,
    },
    Live {
        dir: Rc<ContainerDir>,
        file: File,
        offset: u64,
        /// The end up to which the log is read. With `--follow`, later lines are printed afterwards.
        end: u64,
        is_compressed: bool,
    },
}

impl LineSource {
    /// Returns the offset of the first line in a live log.
    pub(super) fn start(&self) -> u64 {
        match self {
            LineSource::Archive { .. } | LineSource::Member { .. } => 0,
            LineSource::Live { offset, .. } => *offset,
        }
    }
}

/// An archive. It is opened again when its lines are read, because a process cannot hold all archives open.
pub(super) struct FoundArchive {
    pub(super) out: Rc<SafeDir>,
    pub(super) namespace: Rc<str>,
    /// The name of the archive. Until its first commit is visible, it may have a draft's name instead.
    pub(super) name: ArchiveName,
    /// The device and inode.
    pub(super) id: (u64, u64),
}

impl FoundArchive {
    pub(super) fn path(&self) -> PathBuf {
        self.out.path().join(&*self.namespace).join(self.name.to_string())
    }

    /// Opens the archive. Returns `None` if it was removed or replaced after it was found.
    fn open(&self) -> io::Result<Option<File>> {
        let names = [self.name.to_string(), draft_name(self.name), self.name.to_string()];
        for name in names {
            let file = match self.out.file(format!("{}/{name}", self.namespace).as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_file(&error) => continue,
                opened => opened?,
            };
            if status_of(&file)?.stamp.id() == self.id {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

/// The archive that was read last. The next place is often in it, too.
#[derive(Default)]
pub(super) struct LastArchive(Option<(Rc<FoundArchive>, Option<Rc<File>>)>);

impl LastArchive {
    /// Opens an archive. Returns `None` if it was removed.
    pub(super) fn get(&mut self, archive: &Rc<FoundArchive>) -> io::Result<Option<Rc<File>>> {
        match &self.0 {
            Some((last, file)) if Rc::ptr_eq(last, archive) => Ok(file.clone()),
            _ => {
                let file = archive.open()?.map(Rc::new);
                self.0 = Some((archive.clone(), file.clone()));
                Ok(file)
            }
        }
    }
}

/// Reads lines until `take` returns false. Lines above the limit are cut.
pub(super) fn for_each_line(from: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    loop {
        let mut line = Vec::new();
        (&mut from).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() || !take(line) {
            return Ok(());
        }
    }
}

/// A part of a file, read without moving the file's position.
pub(super) struct FileRange<'a> {
    pub(super) file: &'a File,
    pub(super) range: Range<u64>,
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end.saturating_sub(self.range.start)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let read = read_full_at(self.file, &mut buffer[..len], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}
