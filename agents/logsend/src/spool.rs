//! The spool directory: segment files of whole lines that outlive this process. One process uses it at a
//! time.
//!
//! Each addition is one write, and a segment is removed only after its receipt. So SIGKILL at any moment
//! loses no spooled line. At worst it cuts the last write, and the next start ends that line with a newline.
//! Segments are synced to the disk when they are complete and at the end of the process.

use crate::flags::WhenFull;
use crate::outbox::Batch;
use crate::segments::{Segment, SegmentSlot, Segments};
use kit::disk::lock::{Lock, Refused};
use kit::exit::{Exit, Fatal};
use memchr::memchr_iter;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".lines";
/// The largest number of a segment, which no spool reaches. A file with a larger one is another program's.
const NUMBER_MAX: u64 = u64::MAX / 2;

#[derive(Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
    when_full: WhenFull,
    segments: Segments,
    /// The file of the last segment while it grows.
    open: Option<File>,
    dropped_lines: u64,
    _lock: Lock,
}

/// The result of an addition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// The batch is in the spool. Older lines may have been dropped for it.
    Kept,
    /// The spool has no room, and nothing may be dropped.
    Full,
}

/// The segment that an addition went to.
enum SegmentKind {
    New,
    Old,
}

impl Spool {
    /// Opens or creates the directory and counts the lines that an earlier run left there.
    pub(crate) fn open(
        directory: &Path,
        segment_bytes_max: u64,
        bytes_max: u64,
        when_full: WhenFull,
    ) -> Result<Spool, Fatal> {
        let unusable = |e: io::Error| {
            Fatal::new(Exit::Failure, format!("cannot use the spool {}", directory.display())).because(e)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let lock = Lock::at(&directory.join("lock"), 0o600).map_err(|refused| match refused {
            Refused::Held(holder) => {
                let message = format!("another logsend{holder} uses the spool {}", directory.display());
                Fatal::new(Exit::TryAgain, message)
            }
            Refused::Io(e) => unusable(e),
        })?;
        let found = count_all(directory).map_err(unusable)?;
        let segments = Segments::new(found, segment_bytes_max, bytes_max);
        Ok(Spool {
            directory: directory.to_owned(),
            when_full,
            segments,
            open: None,
            dropped_lines: 0,
            _lock: lock,
        })
    }

    pub(crate) fn lines(&self) -> u64 {
        self.segments.lines()
    }

    /// True if the oldest lines are dropped when the spool is full.
    pub(crate) fn drops_oldest(&self) -> bool {
        self.when_full == WhenFull::DropOldest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.head().is_none()
    }

    /// Appends a batch, within the bound.
    pub(crate) fn add(&mut self, batch: &Batch, in_flight: Option<u64>) -> io::Result<Added> {
        let dropping = self.drops_oldest();
        if !dropping && !self.segments.fits(batch.bytes.len() as u64) {
            return Ok(Added::Full);
        }
        self.write(batch, in_flight, dropping)
    }

    /// Appends a batch, even above the bound: at the end of the process there is no other place for it.
    pub(crate) fn add_at_the_end(&mut self, batch: &Batch) -> io::Result<Added> {
        self.write(batch, None, self.drops_oldest())
    }

    /// Appends a batch. On a full disk, `dropping` removes the oldest segments to make room.
    fn write(&mut self, batch: &Batch, in_flight: Option<u64>, dropping: bool) -> io::Result<Added> {
        loop {
            match self.write_once(batch, in_flight, dropping) {
                // The last segment's file has reached a size limit; the next segment has not.
                Err((e, SegmentKind::Old)) if e.kind() == io::ErrorKind::FileTooLarge => {}
                Err((e, _)) if dropping && is_full(&e) => match self.segments.drop_oldest(in_flight) {
                    Some(oldest) => self.drop_segment(oldest),
                    None => return Err(e),
                },
                Err((e, _)) => return Err(e),
                Ok(()) => return Ok(Added::Kept),
            }
        }
    }

    fn write_once(
        &mut self,
        batch: &Batch,
        in_flight: Option<u64>,
        dropping: bool,
    ) -> Result<(), (io::Error, SegmentKind)> {
        let bytes = batch.bytes.len() as u64;
        let SegmentSlot { dropped, number, is_new } = self.segments.place(bytes, in_flight, dropping);
        for segment in dropped {
            self.drop_segment(segment);
        }
        if is_new {
            self.complete_open();
        }
        if let Err(e) = self.append(number, &batch.bytes) {
            self.segments.seal_last();
            if is_new {
                self.segments.remove(number);
                let _ = std::fs::remove_file(self.path(number));
            }
            return Err((e, if is_new { SegmentKind::New } else { SegmentKind::Old }));
        }
        self.segments.grown(bytes, batch.lines);
        Ok(())
    }

    fn drop_segment(&mut self, segment: Segment) {
        self.dropped_lines += segment.lines;
        self.unlink(segment.number);
    }

    fn append(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => private().append(true).create_new(true).open(self.path(number))?,
        };
        let length = file.metadata()?.len();
        if let Err(e) = file.write_all(bytes) {
            // The batch is still in memory. A part of it left in the file would be sent twice.
            file.set_len(length)?;
            return Err(e);
        }
        self.open = Some(file);
        Ok(())
    }

    /// Reads the oldest segment as one batch, which does not grow any more. An error comes with the segment's
    /// number.
    pub(crate) fn head(&mut self) -> Result<Option<(u64, Batch)>, (u64, io::Error)> {
        let Some(Segment { number, lines, .. }) = self.segments.head() else { return Ok(None) };
        if self.segments.is_open(number) {
            self.seal_last();
        }
        let bytes = std::fs::read(self.path(number)).map_err(|e| (number, e))?;
        Ok(Some((number, Batch { bytes, lines })))
    }

    /// Completes the last segment, so that the next addition begins a new one. Returns its number.
    pub(crate) fn seal_last(&mut self) -> Option<u64> {
        self.complete_open();
        self.segments.seal_last()
    }

    /// Removes a segment after its receipt.
    pub(crate) fn remove(&mut self, number: u64) {
        if self.segments.remove(number).is_some() {
            self.unlink(number);
        }
    }

    /// Counts the lines of a segment that another program removed.
    pub(crate) fn forget(&mut self, number: u64) {
        self.dropped_lines += self.segments.remove(number).map_or(0, |segment| segment.lines);
    }

    /// Returns the number of lines that were dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_lines)
    }

    fn unlink(&self, number: u64) {
        let path = self.path(number);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(
                event = "segment_removal_failed",
                path = %path.display(),
                %error,
                "cannot remove a segment: its lines may be sent again"
            );
        }
    }

    /// Makes the spool survive a power cut.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = &self.open {
            file.sync_data()?;
        }
        File::open(&self.directory)?.sync_all()
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn complete_open(&mut self) {
        if let Some(file) = self.open.take()
            && let Err(error) = file.sync_data()
        {
            tracing::warn!(
                event = "spool_sync_failed",
                spool = %self.directory.display(),
                %error,
                "cannot sync the spool"
            );
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:020}{SUFFIX}"))
    }
}

/// True if removing files may help.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options
}

/// Counts the lines of every segment, and ends a line that was cut. Other files are left alone.
fn count_all(directory: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
        let Some(number) = number.filter(|number| *number < NUMBER_MAX) else { continue };
        found.extend(count(&directory.join(name), number)?);
    }
    Ok(found)
}

fn count(path: &Path, number: u64) -> io::Result<Option<Segment>> {
    let mut file = private().read(true).append(true).open(path)?;
    let (mut bytes, mut lines, mut last) = (0, 0, b'\n');
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut chunk)?;
        let Some(end) = chunk[..length].last() else { break };
        last = *end;
        bytes += length as u64;
        lines += memchr_iter(b'\n', &chunk[..length]).count() as u64;
    }
    if bytes == 0 {
        std::fs::remove_file(path)?;
        return Ok(None);
    }
    if last != b'\n' {
        tracing::warn!(
            event = "unfinished_line_closed",
            path = %path.display(),
            "ended an unfinished line that a crash had left"
        );
        file.write_all(b"\n")?;
        (bytes, lines) = (bytes + 1, lines + 1);
    }
    Ok(Some(Segment { number, bytes, lines }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(text: &str) -> Batch {
        Batch { bytes: text.into(), lines: text.matches('\n').count() as u64 }
    }

    fn open(directory: &Path, when_full: WhenFull) -> Spool {
        Spool::open(directory, 16, 64, when_full).unwrap()
    }

    fn drain(spool: &mut Spool) -> String {
        let mut all = Vec::new();
        while let Some((number, batch)) = spool.head().unwrap() {
            all.extend(batch.bytes);
            spool.remove(number);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn the_next_run_finds_the_lines_in_order_and_appends() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = open(directory.path(), WhenFull::Wait);
        for text in ["one\n", "two\nthree\n", "a long fourth line\n"] {
            assert_eq!(first.add(&batch(text), None).unwrap(), Added::Kept);
        }
        drop(first);
        let mut second = open(directory.path(), WhenFull::Wait);
        assert_eq!(second.lines(), 4);
        second.add(&batch("five\n"), None).unwrap();
        assert_eq!(drain(&mut second), "one\ntwo\nthree\na long fourth line\nfive\n");
        drop(second);
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn a_cut_line_is_closed_and_whole_lines_stay() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("00000000000000000003.lines"), "whole\nto").unwrap();
        std::fs::write(directory.path().join("00000000000000000004.lines"), "").unwrap();
        std::fs::write(directory.path().join("notes.txt"), "not ours").unwrap();
        let mut spool = open(directory.path(), WhenFull::Wait);
        assert_eq!(spool.lines(), 2);
        assert_eq!(drain(&mut spool), "whole\nto\n");
        assert!(directory.path().join("notes.txt").exists());
    }

    #[test]
    fn a_full_spool_refuses_or_drops_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let ten = batch("123456789\n");
        let mut waiting = open(directory.path(), WhenFull::Wait);
        for _ in 0..6 {
            assert_eq!(waiting.add(&ten, None).unwrap(), Added::Kept);
        }
        assert_eq!(waiting.add(&ten, None).unwrap(), Added::Full);
        assert_eq!(waiting.add_at_the_end(&ten).unwrap(), Added::Kept);
        drop(waiting);
        let mut dropping = open(directory.path(), WhenFull::DropOldest);
        assert_eq!(dropping.add(&ten, None).unwrap(), Added::Kept);
        assert_eq!(dropping.take_dropped(), 2);
        assert_eq!(dropping.lines(), 6);
    }

    #[test]
    fn a_second_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = open(directory.path(), WhenFull::Wait);
        let fatal = Spool::open(directory.path(), 16, 64, WhenFull::Wait).unwrap_err();
        assert_eq!(fatal.exit(), Exit::TryAgain);
        let named = format!("another logsend (process {} on ", std::process::id());
        let line = fatal.one_line();
        assert!(line.starts_with(&named) && line.contains(") uses the spool /"), "{fatal}");
    }
}
