//! One container log that is held open: its identity, the position up to which it is read, and its phase.

use crate::archive::checksum::Checksum;
use crate::archive::header::Meta;
use crate::logs::log_file::read_full_at;
use crate::pods::cri::{self, whole_lines};
use crate::pods::cursor::{ArchivedCopy, Cursor, HEAD_BYTES_MAX};
use crate::pods::place::LogName;
use crate::pods::veil::Span;
use crate::safe_dir::{FileStatus, status_of};
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Instant;

/// Limit on an entry. A longer line is cut.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// Limit on the last archived bytes whose checksum shows that the log still has them.
const TAIL_BYTES_MAX: usize = 1024;

/// Decides how a log is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The log is read to its end; the kernel reports the next write.
    Quiet,
    /// Each sweep reads the log.
    Growing,
    /// The log was deleted, or compressed by kubelet. It is read until it no longer grows.
    Departed { quiet_since: Instant },
    /// The log is compressed: it is read once, from start to end.
    Packed,
    /// The log is read to its end and does not grow any more.
    Ended,
}

/// The position up to which a log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    offset: u64,
    /// The checksum of the first line.
    head: Checksum,
    /// The checksum of the last bytes.
    tail: Checksum,
    /// The latest time of the lines.
    latest: Option<Timestamp>,
    /// Lines up to this time are archived already, and are skipped.
    skips_until: Option<Timestamp>,
}

impl Position {
    fn advance(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.offset == 0 {
            self.head = Checksum::of(head_of(bytes));
        }
        self.tail = Checksum::of(&bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..]);
        self.offset += bytes.len() as u64;
    }
}

fn head_of(bytes: &[u8]) -> &[u8] {
    let head = &bytes[..bytes.len().min(usize::try_from(HEAD_BYTES_MAX).unwrap_or(0))];
    head.split_inclusive(|b| *b == b'\n').next().unwrap_or_default()
}

pub struct FollowedLog {
    pub name: LogName,
    pub phase: Phase,
    file: File,
    pub inode: u64,
    pub meta: Meta,
    /// The decoder of a compressed log, and the bytes after the last whole line that it returned.
    unpacking: Option<(MultiGzDecoder<File>, Vec<u8>)>,
    /// The error that ended the unpacking. It is returned after the lines before it.
    damage: Option<io::Error>,
    read: Position,
    committed: Position,
    /// The size at the last look. `seen_before` is the size at the look before it.
    seen: u64,
    seen_before: Option<u64>,
    /// The compressed copy that kubelet made of this log.
    pub copy: Option<ArchivedCopy>,
    /// The number of consecutive looks at which the log had no name although it was not deleted.
    pub misses: u32,
    /// True if the log has departed and another file has its name.
    pub was_replaced: bool,
    /// True if a sweep skipped the log because of its holes. This is counted once.
    pub is_sparse: bool,
    /// True if the log has ended although some of its data could not be read.
    pub is_cut_short: bool,
}

impl FollowedLog {
    /// Follows a log from the position in the cursor. Without a cursor, from the start.
    pub fn new(name: LogName, file: File, look: &FileStatus, cursor: Option<&Cursor>) -> FollowedLog {
        let packed = name.is_compressed();
        let start = cursor.map_or(Position::default(), |cursor| {
            let (head, tail, latest) = (cursor.head(), cursor.tail(), cursor.latest());
            let skips_until = latest.filter(|_| cursor.is_repeating);
            let start = Position { offset: cursor.offset, head, tail, latest, skips_until };
            // After a power loss, the log may lack bytes that are archived. Its other lines must not be
            // archived twice.
            match packed || look.stamp.size >= start.offset && has_tail(&file, &start) {
                true => start,
                false => Position { latest, skips_until: latest, ..Position::default() },
            }
        });
        FollowedLog {
            name,
            phase: if packed { Phase::Packed } else { Phase::Growing },
            file,
            inode: look.stamp.ino,
            meta: look.meta,
            unpacking: None,
            damage: None,
            read: start,
            committed: start,
            seen: 0,
            seen_before: None,
            copy: None,
            misses: 0,
            was_replaced: false,
            is_sparse: false,
            is_cut_short: false,
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

    /// True if this is an uncompressed log that starts with the same line. A log that was just opened may
    /// still be unread.
    pub fn is_the_start_of(&self, start: &[u8]) -> bool {
        if self.name.is_compressed() {
            return false;
        }
        if self.read.head.len > 0 {
            return self.cursor().fits(start);
        }
        let own = FollowedLog::start_of(&self.file, false).unwrap_or_default();
        let head = head_of(&own);
        !head.is_empty() && start.starts_with(head)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns a key that sorts the logs of a container from the oldest to the newest.
    pub fn age(&self) -> impl Ord + '_ {
        // A log that was replaced under its live name is older than those rotated since. A log deleted with its
        // container is still the newest.
        let is_present = !(self.name.is_live() && self.was_replaced);
        (self.name.restart, is_present, &self.name)
    }

    pub fn look(&self) -> io::Result<FileStatus> {
        status_of(&self.file)
    }

    /// Notes the size before a sweep. Returns the end up to which the sweep reads, and true if the log was
    /// truncated.
    pub fn measure(&mut self, look: &FileStatus) -> (u64, bool) {
        let size = look.stamp.size;
        self.meta = look.meta;
        let is_truncated = size < self.read.offset;
        if is_truncated {
            self.read = Position::default();
        }
        self.note_size(size);
        (size, is_truncated)
    }

    /// Keeps a log from becoming quiet, because the sweep has not read it to its end.
    pub fn expect_news(&mut self) {
        self.seen_before = None;
    }

    /// Notes the size that a sweep has found.
    pub fn note_size(&mut self, size: u64) {
        self.seen_before = Some(self.seen);
        self.seen = size;
    }

    /// Ends a log whose other data cannot be read.
    pub fn cut_short(&mut self) {
        self.phase = Phase::Ended;
        self.is_cut_short = true;
    }

    /// Makes a quiet log a growing one if it has grown.
    pub fn wake_if_grown(&mut self) {
        if self.phase == Phase::Quiet && !self.is_as_seen() {
            self.phase = Phase::Growing;
        }
    }

    /// True if the last two sweeps found nothing new.
    pub fn is_swept_without_news(&self) -> bool {
        self.seen_before == Some(self.seen)
    }

    /// True if the log still has the size that the last look found.
    pub fn is_as_seen(&self) -> bool {
        self.look().is_ok_and(|look| look.stamp.size == self.seen)
    }

    /// Reads the next whole lines before `end` into `lines`, up to the size of one entry. `lines` is empty if
    /// no whole line is left. With `to_the_end`, an unfinished line at the end counts as a line.
    pub fn read_lines(&mut self, end: u64, to_the_end: bool, lines: &mut Vec<u8>) -> io::Result<()> {
        lines.clear();
        if self.phase == Phase::Ended {
            // The raw bytes of a compressed log are not lines.
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

    /// Notes the times of the lines that were read.
    pub fn note_times(&mut self, span: Span) {
        self.read.latest = self.read.latest.max(span.map(|(_, last)| last));
    }

    /// Removes lines that are archived already. Returns true if more lines must be read to find a new one.
    pub fn skip_archived(&mut self, lines: &mut Vec<u8>) -> bool {
        let Some(until) = self.read.skips_until else { return false };
        if lines.is_empty() {
            return false;
        }
        if cri::remove_until(lines, until) {
            self.read.skips_until = None;
        }
        lines.is_empty()
    }

    fn unpack_lines(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        if let Some(damage) = self.damage.take() {
            return Err(damage);
        }
        if self.unpacking.is_none() {
            (&self.file).rewind()?;
            let mut decoder = MultiGzDecoder::new(self.file.try_clone()?);
            io::copy(&mut (&mut decoder).take(self.read.offset), &mut io::sink())?;
            self.unpacking = Some((decoder, Vec::new()));
        }
        let Some((decoder, rest)) = &mut self.unpacking else { return Ok(()) };
        lines.append(rest);
        let missing = ENTRY_BYTES_MAX.saturating_sub(lines.len()) as u64;
        if let Err(damage) = decoder.take(missing).read_to_end(lines) {
            lines.truncate(whole_lines(lines));
            if lines.is_empty() {
                return Err(damage);
            }
            self.damage = Some(damage);
            return Ok(());
        }
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

    /// Returns the number of bytes that are not archived yet.
    pub fn unread_bytes(&self) -> u64 {
        self.look().map_or(0, |look| look.stamp.size).saturating_sub(self.committed.offset)
    }

    /// True if bytes were read after the last commit.
    pub fn has_news(&self) -> bool {
        self.read != self.committed
    }

    pub fn commit(&mut self) {
        self.committed = self.read;
    }

    pub fn roll_back(&mut self) {
        self.read = self.committed;
        self.unpacking = None;
        self.damage = None;
        self.is_cut_short = false;
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
            tail_crc: self.read.tail.crc,
            tail_bytes: self.read.tail.len,
            is_repeating: self.read.skips_until.is_some(),
            latest_ns: self.read.latest.and_then(|latest| i64::try_from(latest.as_nanosecond()).ok()),
            is_whole: !self.name.is_live() && self.read.offset >= self.seen && self.phase != Phase::Packed,
        }
    }
}

/// True if the bytes before the position are still those that were read.
fn has_tail(file: &File, at: &Position) -> bool {
    let mut tail = vec![0; usize::try_from(at.tail.len).unwrap_or(0).min(TAIL_BYTES_MAX)];
    let read = read_full_at(file, &mut tail, at.offset.saturating_sub(at.tail.len));
    read.is_ok_and(|read| read == tail.len() && Checksum::of(&tail) == at.tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn opened(path: &std::path::Path, cursor: Option<&Cursor>) -> FollowedLog {
        let file = File::open(path).unwrap();
        let look = status_of(&file).unwrap();
        FollowedLog::new("0.log".parse().unwrap(), file, &look, cursor)
    }

    /// Reads all lines that are not archived yet.
    fn all(log: &mut FollowedLog) -> String {
        let (mut all, mut lines) = (Vec::new(), Vec::new());
        let (end, _) = log.measure(&log.look().unwrap());
        loop {
            log.read_lines(end, false, &mut lines).unwrap();
            if !log.skip_archived(&mut lines) && lines.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            log.note_times(cri::span(&lines));
            all.extend(&lines);
        }
    }

    #[test]
    fn log_that_lost_its_end_is_not_read_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let line = |second: u32| format!("2026-11-28T14:05:{second:02}Z stdout F {second}\n");
        let text = |seconds: std::ops::Range<u32>| seconds.map(line).collect::<String>();
        std::fs::write(&path, text(0..20)).unwrap();
        let mut log = opened(&path, None);
        assert_eq!(all(&mut log), text(0..20));
        let cursor = log.cursor();
        for left in 1..=20 {
            std::fs::write(&path, text(0..left)).unwrap();
            assert!(cursor.fits(&FollowedLog::start_of(&File::open(&path).unwrap(), false).unwrap()));
            assert_eq!(all(&mut opened(&path, Some(&cursor))), "", "{left} lines are left");
            // The log grows again, perhaps beyond its former size.
            for new in [1, 30] {
                std::fs::write(&path, text(0..left) + &text(20..20 + new)).unwrap();
                let mut log = opened(&path, Some(&cursor));
                assert_eq!(all(&mut log), text(20..20 + new), "{left} lines are left");
                let cursor = log.cursor();
                assert_eq!(all(&mut opened(&path, Some(&cursor))), "");
            }
        }
    }

    /// The cursor is as in a checkpoint of an earlier version.
    #[test]
    fn log_is_continued_without_a_known_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, "first\n").unwrap();
        let mut log = opened(&path, None);
        assert_eq!(all(&mut log), "first\n");
        let cursor = Cursor { tail_crc: 0, tail_bytes: 0, latest_ns: None, ..log.cursor() };
        std::fs::write(&path, "first\nsecond\n").unwrap();
        assert_eq!(all(&mut opened(&path, Some(&cursor))), "second\n");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(all(&mut opened(&path, Some(&cursor))), "new\n");
    }

    proptest! {
        /// Each line is read once, in whatever way the log grows, logcd restarts and reads are rolled back.
        #[test]
        fn each_line_is_read_once(steps in prop::collection::vec((0u32..5, 0u8..4), 1..20)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("0.log");
            let (mut written, mut committed) = (String::new(), String::new());
            std::fs::write(&path, "").unwrap();
            let mut log = opened(&path, None);
            for (lines, then) in steps {
                for _ in 0..lines {
                    let number = written.len();
                    written += &format!("2026-11-28T14:05:00.{number:09}Z stdout F {number}\n");
                }
                // The last line may be unfinished.
                let cut = if then == 3 && lines > 0 { written.len() - 3 } else { written.len() };
                std::fs::write(&path, &written[..cut]).unwrap();
                let read = all(&mut log);
                match then {
                    0 => log.roll_back(),
                    _ => {
                        committed += &read;
                        log.commit();
                    }
                }
                if then == 1 {
                    let cursor = log.cursor();
                    log = opened(&path, Some(&cursor));
                }
            }
            std::fs::write(&path, &written).unwrap();
            committed += &all(&mut log);
            prop_assert_eq!(committed, written);
        }
    }

    #[test]
    fn unread_log_is_known_by_its_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, "first\nsecond\n").unwrap();
        let log = opened(&path, None);
        assert!(log.is_the_start_of(b"first\nsecond\n"));
        assert!(!log.is_the_start_of(b"other\nsecond\n"));
        std::fs::write(&path, "").unwrap();
        assert!(!log.is_the_start_of(b"first\n"));
    }

    #[test]
    fn lines_before_the_damage_of_a_compressed_log_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log.gz");
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let packed = gzip.finish().unwrap();
        std::fs::write(&path, &packed[..packed.len() * 3 / 4]).unwrap();
        let file = File::open(&path).unwrap();
        let look = status_of(&file).unwrap();
        let name = "0.log.20261128-140512.gz".parse::<LogName>().unwrap();
        let mut log = FollowedLog::new(name, file, &look, None);
        // Another attempt after a roll-back reads the same lines.
        for _ in 0..2 {
            let mut lines = Vec::new();
            log.read_lines(u64::MAX, false, &mut lines).unwrap();
            assert!(lines.len() > text.len() / 2 && lines.ends_with(b"\n"), "{} bytes", lines.len());
            assert!(text.as_bytes().starts_with(&lines));
            assert!(log.read_lines(u64::MAX, false, &mut lines).is_err());
            log.roll_back();
        }
    }

    #[test]
    fn compressed_log_ends_after_its_last_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log.gz");
        // The gzip file stores its content uncompressed, so a raw read would find a line after the one that
        // was read.
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
