//! A log file that is being read: opens it, looks at it once, and compares it with its archived blocks.

use crate::archive::block::{Block, first_of_last, plain_len};
use crate::logs::directories::Roots;
use crate::logs::scanned_file::ScannedFile;
use crate::logs::skip::Skip;
use crate::safe_dir::{FileStatus, Kind, status_of};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// If a file changed while it was read, one in this many of its new blocks is read again.
const SHARE: u64 = 64;
/// Bytes at the end of the archived part that are compared each time.
const TAIL_BYTES: u64 = 32 * 1024;

pub struct LogFile {
    file: File,
    /// The file at the moment when it was opened.
    pub status: FileStatus,
}

/// The reason why a file cannot be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The file is gone.
    Gone,
    Skip(Skip),
}

impl LogFile {
    pub fn open(roots: &Roots, found: &ScannedFile, hard_links: bool) -> Result<LogFile, OpenError> {
        let refused = |error: io::Error| match error.raw_os_error() {
            Some(libc::ENOENT) => OpenError::Gone,
            Some(libc::ELOOP | libc::ENOTDIR | libc::EXDEV) => OpenError::Skip(Skip::Symlink),
            Some(libc::ENXIO) => OpenError::Skip(Skip::NotAFile),
            _ => OpenError::Skip(Skip::Unreadable),
        };
        let (root, path) = roots.locate(&found.name).ok_or(OpenError::Gone)?;
        let file = root.file(path).map_err(refused)?;
        let status = status_of(&file).map_err(refused)?;
        if status.kind != Kind::Regular {
            return Err(OpenError::Skip(Skip::NotAFile));
        }
        // A link was made after the scan; its target is unknown.
        if status.links > found.links && !hard_links {
            return Err(OpenError::Skip(Skip::HardLink));
        }
        Ok(LogFile { file, status })
    }

    /// Uses a file that is already open.
    pub fn of(file: &File) -> io::Result<LogFile> {
        Ok(LogFile { status: status_of(file)?, file: file.try_clone()? })
    }

    pub fn status_now(&self) -> io::Result<FileStatus> {
        status_of(&self.file)
    }

    /// Reads until `buffer` is full or the file ends.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_full_at(&self.file, buffer, offset)
    }

    /// Returns the offset of the next byte with a disk block; everything before it reads as zeros.
    pub fn next_data(&self, offset: u64) -> u64 {
        let Ok(from) = i64::try_from(offset) else { return offset };
        match lseek(&self.file, from, Whence::SeekData) {
            Ok(data) => u64::try_from(data).unwrap_or(offset),
            Err(Errno::ENXIO) => u64::MAX,
            // Not every file system supports this.
            Err(_) => offset,
        }
    }

    /// True if the file has this block at this place.
    pub fn holds(&self, block: &Block, offset: u64, buffer: &mut Vec<u8>) -> io::Result<bool> {
        buffer.resize(usize::try_from(block.plain_len).unwrap_or(usize::MAX), 0);
        let read = self.read(offset, buffer)?;
        Ok(read == buffer.len() && crc32fast::hash(buffer) == block.plain_crc)
    }

    /// Counts the leading blocks that the file still holds.
    pub fn matching(&self, blocks: &[Block], buffer: &mut Vec<u8>) -> io::Result<usize> {
        let mut offset = 0;
        for (number, block) in blocks.iter().enumerate() {
            let end = offset + u64::from(block.plain_len);
            if end > self.status.stamp.size || !self.holds(block, offset, buffer)? {
                return Ok(number);
            }
            offset = end;
        }
        Ok(blocks.len())
    }

    /// True if the file still holds the first and the last of the blocks, which most rewrites change.
    pub fn ends_match(&self, blocks: &[Block], buffer: &mut Vec<u8>) -> io::Result<bool> {
        let tail = first_of_last(TAIL_BYTES, blocks, blocks.len());
        self.all_match(blocks, |number| number == 0 || number >= tail, buffer)
    }

    /// True if the file still holds the first and the last of the blocks, and a share of the ones that were
    /// read just now.
    pub fn samples_match(
        &self,
        blocks: &[Block],
        new_from: usize,
        round: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let shared =
            |number: usize| number >= new_from && (number as u64).wrapping_add(round).is_multiple_of(SHARE);
        Ok(self.ends_match(blocks, buffer)? && self.all_match(blocks, shared, buffer)?)
    }

    fn all_match(
        &self,
        blocks: &[Block],
        chosen: impl Fn(usize) -> bool,
        buffer: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut offset = 0;
        for (number, block) in blocks.iter().enumerate() {
            if chosen(number) && !self.holds(block, offset, buffer)? {
                return Ok(false);
            }
            offset += u64::from(block.plain_len);
        }
        Ok(true)
    }

    /// Reads and checks the blocks from `first` to `kept`, for use as a dictionary.
    pub fn read_blocks(&self, blocks: &[Block], first: usize, kept: usize) -> io::Result<Option<Vec<u8>>> {
        let mut at = plain_len(&blocks[..first]);
        let mut all = Vec::new();
        let mut buffer = Vec::new();
        for block in &blocks[first..kept] {
            if !self.holds(block, at, &mut buffer)? {
                return Ok(None);
            }
            all.extend_from_slice(&buffer);
            at += u64::from(block.plain_len);
        }
        Ok(Some(all))
    }
}

/// Reads from this offset until the buffer is full or the file ends; returns the number of bytes.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
