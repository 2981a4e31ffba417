//! Reads the file's newest lines for the page as they arrive, and no more than a person can read.

use crate::line_filter::LineFilter;
use kit::disk::inode::Inode;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes read from the file's end at first, without a filter. With one, `LOOK_BYTES` are searched.
const FIRST_BYTES: u64 = 16 << 10;
/// Bytes read at one look, enough for some of the longest lines. A file that grows faster is not shown
/// completely, and the page says so.
const LOOK_BYTES: usize = 4 << 20;
/// Lines shown of one look.
const LINES_MAX: usize = 200;
/// Bytes shown of one line.
const LINE_BYTES: usize = 4 << 10;

/// The result of one look.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct News {
    pub lines: Vec<String>,
    /// Lines that passed the filter but are not shown.
    pub more_lines: usize,
    /// Bytes that were not looked at.
    pub skipped_bytes: u64,
}

impl News {
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.skipped_bytes == 0
    }
}

#[derive(Debug)]
pub struct NewestLines {
    path: PathBuf,
    filter: LineFilter,
    file: Option<File>,
    at: u64,
    /// The beginning of an unfinished line.
    held: Vec<u8>,
    /// True if the next line's beginning was not read, so that the line is skipped.
    in_the_middle: bool,
}

impl NewestLines {
    pub fn new(path: PathBuf, filter: LineFilter) -> NewestLines {
        NewestLines { path, filter, file: None, at: 0, held: Vec::new(), in_the_middle: false }
    }

    /// Returns the lines added since the last look. Follows the path after the last line of a rotated file.
    pub fn look(&mut self) -> io::Result<News> {
        let mut news = News::default();
        if self.file.is_none() {
            let file = File::open(&self.path)?;
            let first_bytes = if self.filter.is_empty() { FIRST_BYTES } else { LOOK_BYTES as u64 };
            self.at = file.metadata()?.len().saturating_sub(first_bytes);
            self.in_the_middle = self.at > 0;
            self.file = Some(file);
        }
        self.read(&mut news)?;
        // A file that cannot be opened now is opened at the next look.
        if self.has_successor()
            && let Ok(successor) = File::open(&self.path)
        {
            // Lines may have come between the read and the rotation.
            self.read(&mut news)?;
            self.file = Some(successor);
            (self.at, self.in_the_middle) = (0, false);
            self.held.clear();
            self.read(&mut news)?;
        }
        let surplus = news.lines.len().saturating_sub(LINES_MAX);
        news.lines.drain(..surplus);
        news.more_lines = surplus;
        Ok(news)
    }

    fn has_successor(&self) -> bool {
        let ours = self.file.as_ref().and_then(|file| Inode::of(file).ok());
        Inode::at(&self.path).is_ok_and(|now| Some(now) != ours)
    }

    fn read(&mut self, news: &mut News) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let len = file.metadata()?.len();
        if len < self.at {
            // The file was truncated in place.
            (self.at, self.in_the_middle) = (0, false);
            self.held.clear();
        }
        let behind = len - self.at;
        if behind > LOOK_BYTES as u64 {
            let skipped = behind - LOOK_BYTES as u64;
            news.skipped_bytes += skipped;
            self.at += skipped;
            self.in_the_middle = true;
            self.held.clear();
        }
        let mut fresh = vec![0; usize::try_from(len - self.at).unwrap_or(LOOK_BYTES)];
        let read = file.read_at(&mut fresh, self.at)?;
        fresh.truncate(read);
        self.at += read as u64;
        self.held.append(&mut fresh);
        let Some(end) = memchr::memrchr(b'\n', &self.held) else {
            if self.held.len() > LOOK_BYTES {
                news.skipped_bytes += self.held.len() as u64;
                self.held.clear();
                self.in_the_middle = true;
            }
            return Ok(());
        };
        let rest = self.held.split_off(end + 1);
        for line in self.held[..end].split(|b| *b == b'\n').skip(usize::from(self.in_the_middle)) {
            if self.filter.passes(line) {
                news.lines.push(shown(line));
            }
        }
        self.in_the_middle = false;
        self.held = rest;
        Ok(())
    }
}

fn shown(line: &[u8]) -> String {
    let cut = &line[..line.len().min(LINE_BYTES)];
    let more = if cut.len() < line.len() { format!(" … ({} bytes)", line.len()) } else { String::new() };
    format!("{}{more}", String::from_utf8_lossy(cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn grep(regex: &str) -> LineFilter {
        LineFilter { grep: Some(regex.parse().unwrap()), ..LineFilter::default() }
    }

    struct Log {
        directory: tempfile::TempDir,
    }

    impl Log {
        fn with(text: &str) -> Log {
            let log = Log { directory: tempfile::tempdir().unwrap() };
            log.add(text);
            log
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("node_log")
        }

        fn add(&self, text: impl AsRef<[u8]>) {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(self.path());
            file.unwrap().write_all(text.as_ref()).unwrap();
        }
    }

    #[test]
    fn matching_lines_are_shown_once() {
        let log = Log::with("old error\nfine\n");
        let mut newest = NewestLines::new(log.path(), grep("error"));
        assert_eq!(newest.look().unwrap().lines, ["old error"]);
        assert!(newest.look().unwrap().is_empty());
        log.add("half an err");
        assert!(newest.look().unwrap().is_empty());
        log.add("or\nerror \u{1b}[31m\nno\n");
        assert_eq!(newest.look().unwrap().lines, ["half an error", "error \u{1b}[31m"]);
    }

    #[test]
    fn rotation_and_emptying_lose_nothing() {
        let log = Log::with("one\n");
        let mut newest = NewestLines::new(log.path(), LineFilter::default());
        assert_eq!(newest.look().unwrap().lines, ["one"]);
        log.add("two\n");
        std::fs::rename(log.path(), log.path().with_extension("1")).unwrap();
        log.add("three\n");
        assert_eq!(newest.look().unwrap().lines, ["two", "three"]);
        File::create(log.path()).unwrap();
        log.add("4\n");
        assert_eq!(newest.look().unwrap().lines, ["4"]);
    }

    #[test]
    fn too_many_lines_are_skipped_and_counted() {
        let log = Log::with("start\n");
        let mut newest = NewestLines::new(log.path(), LineFilter::default());
        newest.look().unwrap();
        log.add("0123456\n".repeat(1000));
        let news = newest.look().unwrap();
        assert_eq!((news.lines.len(), news.more_lines), (LINES_MAX, 1000 - LINES_MAX));
        log.add("x".repeat(6 << 20));
        log.add("\nlast\n");
        let news = newest.look().unwrap();
        assert_eq!(news.lines, ["last"], "a line's end without its beginning is no line");
        assert!(news.skipped_bytes >= 2 << 20, "{news:?}");
        log.add(format!("{}\n", "y".repeat(1 << 19)));
        let news = newest.look().unwrap();
        assert!(news.lines[0].len() < LINE_BYTES + 40 && news.lines[0].ends_with("(524288 bytes)"));
    }

    #[test]
    fn endless_line_takes_bounded_memory() {
        let log = Log::with("");
        let mut newest = NewestLines::new(log.path(), LineFilter::default());
        for _ in 0..16 {
            log.add(vec![b'z'; 1 << 20]);
            newest.look().unwrap();
            assert!(newest.held.len() <= 2 * LOOK_BYTES);
        }
        log.add("\nnext\n");
        assert_eq!(newest.look().unwrap().lines, ["next"]);
    }
}
