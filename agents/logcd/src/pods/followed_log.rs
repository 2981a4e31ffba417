//! One container log that is held open: its identity, the position up to which it is read, and its phase.

use crate::archive::checksum::Checksum;
use crate::archive::header::Meta;
use crate::logs::log_file::read_full_at;
use crate::pods::cri::whole_lines;
use crate::pods::cursor::{ArchivedCopy, Cursor, HEAD_BYTES_MAX};
use crate::pods::place::LogName;
use crate::safe_dir::{FileStatus, status_of};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Instant;

/// The largest entry. A longer line is cut.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// Decides how a log is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The log is read to its end; the kernel reports the next write.
    Quiet,
    /// The log is read in each sweep.
    Growing,
    /// The log was deleted, or compressed by kubelet. It is read until it no longer grows.
    Departed { quiet_since: Instant },
    /// The log is compressed: it is read once from start to end.
    Packed,
    /// The log is read to its end, and will not grow.
    Ended,
}

/// The position up to which a log is read, with the checksum of the bytes at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    offset: u64,
    head: Checksum,
}

impl Position {
    fn advance(&mut self, bytes: &[u8]) {
        let missing = usize::try_from(HEAD_BYTES_MAX.saturating_sub(self.head.len)).unwrap_or(0);
        if self.head.len == self.offset {
            self.head = self.head.then(Checksum::of(&bytes[..missing.min(bytes.len())]));
        }
        self.offset += bytes.len() as u64;
    }
}

pub struct FollowedLog {
    pub name: LogName,
    pub phase: Phase,
    file: File,
    pub inode: u64,
    pub meta: Meta,
    /// The decoder of a compressed log, and the bytes after the last whole line that it returned.
    unpacking: Option<(MultiGzDecoder<File>, Vec<u8>)>,
    read: Position,
    committed: Position,
    /// The size at the last look. `seen_before` is the size at the look before.
    seen: u64,
    seen_before: Option<u64>,
    /// The compressed copy that kubelet made of this log.
    pub copy: Option<ArchivedCopy>,
    /// The number of looks in a row at which the log had no name although it was not deleted.
    pub misses: u32,
}

impl FollowedLog {
    /// Follows a log from the position in the cursor, or from its start without one.
    pub fn new(name: LogName, file: File, look: &FileStatus, cursor: Option<&Cursor>) -> FollowedLog {
        let start = cursor
            .map_or(Position::default(), |cursor| Position { offset: cursor.offset, head: cursor.head() });
        let packed = name.is_compressed();
        // A log that is shorter than the bytes read from it has other content now.
        let start = if !packed && look.stamp.size < start.offset { Position::default() } else { start };
        FollowedLog {
            name,
            phase: if packed { Phase::Packed } else { Phase::Growing },
            file,
            inode: look.stamp.ino,
            meta: look.meta,
            unpacking: None,
            read: start,
            committed: start,
            seen: 0,
            seen_before: None,
            copy: None,
            misses: 0,
        }
    }

    /// Reads the first bytes, which identify a log.
    pub fn start_of(file: &File, is_compressed: bool) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        if is_compressed {
            MultiGzDecoder::new(file.try_clone()?).take(HEAD_BYTES_MAX).read_to_end(&mut start)?;
            (&*file).rewind()?;
        } else {
            let mut bytes = vec![0; usize::try_from(HEAD_BYTES_MAX).unwrap_or(0)];
            let read = read_full_at(file, &mut bytes, 0)?;
            start.extend(&bytes[..read]);
        }
        Ok(start)
    }

    /// True if this file is the compressed copy that kubelet made of the log.
    pub fn is_copied_to(&self, inode: u64, name: &LogName) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.is(inode, name))
    }

    /// True if this is an uncompressed log whose first bytes, as far as they are read, are these.
    pub fn is_the_start_of(&self, start: &[u8]) -> bool {
        let cursor = self.cursor();
        !self.name.is_compressed() && cursor.head_bytes > 0 && cursor.fits(start)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn look(&self) -> io::Result<FileStatus> {
        status_of(&self.file)
    }

    /// Looks at the size before a sweep. Returns the end up to which the sweep reads, and true if the log was
    /// truncated.
    pub fn measure(&mut self) -> io::Result<(u64, bool)> {
        if self.phase == Phase::Packed {
            return Ok((u64::MAX, false));
        }
        let look = self.look()?;
        let size = look.stamp.size;
        self.meta = look.meta;
        let is_truncated = size < self.read.offset;
        if is_truncated {
            self.read = Position::default();
        }
        self.seen_before = Some(self.seen);
        self.seen = size;
        Ok((size, is_truncated))
    }

    /// True if the last two sweeps found nothing new.
    pub fn is_swept_without_news(&self) -> bool {
        self.seen_before == Some(self.seen)
    }

    /// True if the log still has the size of the last look.
    pub fn is_as_seen(&self) -> bool {
        self.look().is_ok_and(|look| look.stamp.size == self.seen)
    }

    /// Reads the next whole lines before `end` into `lines`, at most one entry of them. `lines` is empty if
    /// no whole line is left. With `to_the_end`, an unfinished line at the end counts as a line.
    pub fn read_lines(&mut self, end: u64, to_the_end: bool, lines: &mut Vec<u8>) -> io::Result<()> {
        lines.clear();
        if self.phase == Phase::Ended {
            // The bytes of a compressed log are no lines.
            return Ok(());
        }
        if self.phase == Phase::Packed {
            self.unpack_lines(lines)?;
        } else {
            let left = usize::try_from(end.saturating_sub(self.read.offset)).unwrap_or(usize::MAX);
            lines.resize(left.min(ENTRY_BYTES_MAX), 0);
            let read = read_full_at(&self.file, lines, self.read.offset)?;
            lines.truncate(read);
            let whole = whole_lines(lines);
            if whole > 0 {
                lines.truncate(whole);
            } else if !to_the_end && read < ENTRY_BYTES_MAX {
                lines.clear();
            }
        }
        self.read.advance(lines);
        Ok(())
    }

    fn unpack_lines(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        if self.unpacking.is_none() {
            (&self.file).rewind()?;
            let mut decoder = MultiGzDecoder::new(self.file.try_clone()?);
            io::copy(&mut (&mut decoder).take(self.read.offset), &mut io::sink())?;
            self.unpacking = Some((decoder, Vec::new()));
        }
        let Some((decoder, rest)) = &mut self.unpacking else { return Ok(()) };
        lines.append(rest);
        let missing = ENTRY_BYTES_MAX.saturating_sub(lines.len()) as u64;
        decoder.take(missing).read_to_end(lines)?;
        if lines.len() < ENTRY_BYTES_MAX {
            self.phase = Phase::Ended;
            self.unpacking = None;
            return Ok(());
        }
        let whole = whole_lines(lines);
        if whole > 0 {
            rest.extend(&lines[whole..]);
            lines.truncate(whole);
        }
        Ok(())
    }

    /// True if bytes were read since the last commit.
    pub fn has_news(&self) -> bool {
        self.read != self.committed
    }

    pub fn commit(&mut self) {
        self.committed = self.read;
    }

    pub fn roll_back(&mut self) {
        self.read = self.committed;
        self.unpacking = None;
        if self.name.is_compressed() {
            self.phase = Phase::Packed;
        } else if self.phase == Phase::Ended {
            self.phase = Phase::Departed { quiet_since: Instant::now() };
        }
    }

    /// Returns the compressed log that need not be read, because this log has ended.
    pub fn settled(&self) -> Option<ArchivedCopy> {
        match self.phase {
            Phase::Ended if self.name.is_compressed() => {
                Some(ArchivedCopy { name: self.name.to_string(), inode: self.inode })
            }
            Phase::Ended => self.copy.clone(),
            _ => None,
        }
    }

    /// Returns the cursor for a checkpoint.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            name: self.name.to_string(),
            inode: self.inode,
            offset: self.read.offset,
            head_crc: self.read.head.crc,
            head_bytes: self.read.head.len,
            is_whole: !self.name.is_live() && self.read.offset >= self.seen && self.phase != Phase::Packed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[test]
    fn compressed_log_ends_after_its_last_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log.gz");
        // Stored, so that the file itself contains the line behind what was read.
        let mut gzip = GzEncoder::new(File::create(&path).unwrap(), Compression::none());
        gzip.write_all(b"a\n").unwrap();
        gzip.finish().unwrap();
        let file = File::open(&path).unwrap();
        let look = status_of(&file).unwrap();
        let name = "0.log.20261128-140512.gz".parse::<LogName>().unwrap();
        let mut log = FollowedLog::new(name, file, &look, None);
        let mut lines = Vec::new();
        log.read_lines(u64::MAX, false, &mut lines).unwrap();
        assert_eq!((&lines[..], log.phase), (&b"a\n"[..], Phase::Ended));
        log.read_lines(u64::MAX, false, &mut lines).unwrap();
        assert!(lines.is_empty());
    }
}
