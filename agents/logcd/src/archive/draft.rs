//! The draft of an archive: ranges of the previous archive, which the kernel copies, and new bytes.

use crate::error::ArchiveError;
use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// New bytes are buffered up to this size before they are written.
const BUFFER_BYTES: usize = 256 * 1024;
/// The kernel copies at most this many bytes at a time, so that a stop or a full disk is noticed between two
/// copies.
const COPY_BYTES_MAX: u64 = 64 << 20;
/// Free space is checked again after this many bytes.
const CHECK_EVERY_BYTES: u64 = 16 << 20;

/// A draft, to which bytes are appended. The last ones can be removed again.
pub struct Draft<'a> {
    file: File,
    path: String,
    base: Option<&'a File>,
    /// The offset of the next byte, including buffered ones.
    at: u64,
    buffer: Vec<u8>,
    /// A range of the base that comes next and is not copied yet, because the next range may adjoin it.
    pending: Option<Range>,
    checked_at: u64,
    /// Fails when the work must stop: the disk is filling up, or the process is asked to abort.
    check: Box<dyn Fn() -> Result<(), ArchiveError> + 'a>,
    pub copied: u64,
    pub written: u64,
}

#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

impl<'a> Draft<'a> {
    pub fn new(
        file: File,
        path: String,
        base: Option<&'a File>,
        check: impl Fn() -> Result<(), ArchiveError> + 'a,
    ) -> Draft<'a> {
        Draft {
            file,
            path,
            base,
            at: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            pending: None,
            checked_at: 0,
            check: Box::new(check),
            copied: 0,
            written: 0,
        }
    }

    pub fn at(&self) -> u64 {
        self.at
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.copy_pending()?;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.write_buffer()?;
        }
        self.buffer.extend_from_slice(bytes);
        self.at += bytes.len() as u64;
        self.written += bytes.len() as u64;
        self.check_now_and_then()
    }

    /// Appends a range of the base archive.
    pub fn copy(&mut self, start: u64, len: u64) -> Result<(), ArchiveError> {
        self.write_buffer()?;
        match &mut self.pending {
            Some(range) if range.start + range.len == start => range.len += len,
            _ => {
                self.copy_pending()?;
                self.pending = Some(Range { start, len });
            }
        }
        self.at += len;
        self.copied += len;
        Ok(())
    }

    /// Removes everything after `at`.
    pub fn rewind(&mut self, at: u64) -> Result<(), ArchiveError> {
        self.flush()?;
        self.file.set_len(at).map_err(ArchiveError::doing(format!("shorten {}", self.path)))?;
        self.at = at;
        Ok(())
    }

    /// Writes and syncs everything.
    pub fn finish(mut self) -> Result<File, ArchiveError> {
        self.flush()?;
        self.file.sync_all().map_err(ArchiveError::doing(format!("sync {}", self.path)))?;
        Ok(self.file)
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        self.copy_pending()?;
        self.write_buffer()
    }

    fn write_buffer(&mut self) -> Result<(), ArchiveError> {
        let start = self.at - self.buffer.len() as u64;
        self.file
            .write_all_at(&self.buffer, start)
            .map_err(ArchiveError::doing(format!("write {}", self.path)))?;
        self.buffer.clear();
        Ok(())
    }

    fn copy_pending(&mut self) -> Result<(), ArchiveError> {
        let (Some(mut range), Some(base)) = (self.pending.take(), self.base) else { return Ok(()) };
        let mut to = self.at - range.len;
        while range.len > 0 {
            let len = range.len.min(COPY_BYTES_MAX);
            let copied = copy(base, range.start, &self.file, to, len).map_err(ArchiveError::doing(
                format!("copy the blocks kept from the last archive to {}", self.path),
            ))?;
            range.start += copied;
            range.len -= copied;
            to += copied;
            (self.check)()?;
        }
        Ok(())
    }

    fn check_now_and_then(&mut self) -> Result<(), ArchiveError> {
        if self.at >= self.checked_at + CHECK_EVERY_BYTES {
            self.checked_at = self.at;
            (self.check)()?;
        }
        Ok(())
    }
}

/// Copies within the kernel where the file systems support it, else through memory. Never returns zero.
fn copy(from: &File, start: u64, to: &File, at: u64, len: u64) -> io::Result<u64> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let mut off_in = i64::try_from(start).map_err(out_of_range)?;
    let mut off_out = i64::try_from(at).map_err(out_of_range)?;
    let want = usize::try_from(len).unwrap_or(usize::MAX);
    match copy_file_range(from, Some(&mut off_in), to, Some(&mut off_out), want) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last archive is shorter than it was")),
        Ok(copied) => Ok(copied as u64),
        Err(Errno::EINTR) => copy(from, start, to, at, len),
        Err(Errno::EXDEV | Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPERM) => {
            let mut buffer = vec![0; want.min(BUFFER_BYTES)];
            from.read_exact_at(&mut buffer, start)?;
            to.write_all_at(&buffer, at)?;
            Ok(buffer.len() as u64)
        }
        Err(errno) => Err(errno.into()),
    }
}
