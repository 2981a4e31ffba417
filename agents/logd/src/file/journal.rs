//! The file: whole lines appended to it, rotated when due, found again after a crash or a move.

use crate::file::lock;
use crate::file::mending::mend_end;
use crate::file::rotated::{self, appending, directory_of};
use crate::file::rotation::{Policy, rotated_name};
use crate::file::unsynced::{Owed, Unsynced};
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often to look whether the path still leads to the open file, and to try a failed rotation again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an append achieved when it could not be finished.
#[derive(Debug)]
pub struct Stopped {
    /// So many of the bytes are in the file and stay there.
    pub kept_bytes: usize,
    pub error: io::Error,
}

/// What happened to the file, for metrics and the housekeeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub rotated: u64,
    pub reopened: u64,
    pub rotation_failed: u64,
}

/// The open file and its place in the directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    file_bytes: u64,
    /// How old the file was then; since, a clock counts that nobody sets.
    age_at_open: Duration,
    opened: Instant,
    pub policy: Policy,
    next_number: u64,
    /// The newest rotated file that nothing is added to any more; when a rotation is half done, an older one than the newest.
    newest_finished: u64,
    rotation: Rotation,
    looked_at: Instant,
    /// After a failed rotation: not with every batch again.
    rotate_not_before: Option<Instant>,
    owed: Owed,
    pub events: Events,
}

/// A rotation takes two steps, and each may fail and be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// The open file has its proper name.
    InPlace,
    /// It was renamed, but its successor could not take its place: lines still go to the renamed one.
    Renamed,
    /// It ends within a line, since even cutting it back failed: nothing may come between.
    MidLine,
}

impl Journal {
    /// Opens or creates the file, takes its lock and mends what a crash tore; true when there was anything.
    pub fn open(path: &Path, policy: Policy) -> Result<(Journal, bool), Fatal> {
        let refused = |what: &str, path: &Path, e: io::Error| {
            Fatal::new(Exit::Failure, format!("cannot {what} {}", path.display())).because(e)
        };
        let parent = directory_of(path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&parent)
            .map_err(|e| refused("create the directory", &parent, e))?;
        let directory = File::open(&parent).map_err(|e| refused("open the directory", &parent, e))?;
        let lock = lock::take(path)?;
        let file = open(path).map_err(|e| refused("write to", path, e))?;
        let metadata = || file.metadata().map_err(|e| refused("examine", path, e));
        if !metadata()?.is_file() {
            return Err(Fatal::new(Exit::Failure, format!("{} is not a regular file", path.display())));
        }
        let mut torn = mend_end(&file).map_err(|e| refused("mend the end of", path, e))?;
        let metadata = metadata()?;
        let rotated = rotated::list(path).map_err(|e| refused("list", &parent, e))?;
        let newest_number = rotated.last().map_or(0, |newest| newest.number);
        // They may be as new as this one, where the last run was killed.
        let mended = rotated::mend(path, &rotated);
        torn |= mended.torn;
        let journal = Journal {
            path: path.to_owned(),
            owed: Owed::new(directory, mended.unsynced, lock),
            file: Arc::new(file),
            file_bytes: metadata.len(),
            age_at_open: age(&metadata),
            opened: Instant::now(),
            policy,
            next_number: newest_number + 1,
            newest_finished: newest_number,
            rotation: Rotation::InPlace,
            looked_at: Instant::now(),
            rotate_not_before: None,
            events: Events::default(),
        };
        Ok((journal, torn))
    }

    /// Adds whole lines. When it fails, the file still ends with a whole line wherever the system lets it.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Stopped> {
        self.look_after_path();
        let age = self.age_at_open + self.opened.elapsed();
        let pending = self.rotation == Rotation::Renamed;
        if pending || self.policy.is_due(self.file_bytes, age, lines.len()) {
            self.rotate_if_possible();
        }
        self.write(lines)
    }

    /// Follows an outside logrotate: opens the path again if it leads elsewhere by now.
    pub fn reopen(&mut self) -> io::Result<()> {
        if self.is_at_path() || self.rotation == Rotation::MidLine {
            return Ok(());
        }
        let file = open(&self.path)?;
        self.replace_file(file)?;
        self.events.reopened += 1;
        Ok(())
    }

    /// Rotates the file now. Its successor is made first, under a name of its own: what can fail fails there,
    /// with the file still in its place.
    pub fn rotate(&mut self) -> io::Result<()> {
        if self.rotation == Rotation::MidLine {
            return Err(io::Error::other("the last line is not complete"));
        }
        let base = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unborn = self.path.with_file_name(format!(".{base}.new"));
        let file = open(&unborn)?;
        file.set_len(0)?; // left by a crash between the steps
        if self.rotation == Rotation::InPlace {
            let name = rotated_name(&base, self.next_number, Timestamp::now());
            std::fs::rename(&self.path, self.path.with_file_name(name))?;
            self.next_number += 1;
            self.rotation = Rotation::Renamed;
        }
        std::fs::rename(&unborn, &self.path)?;
        self.replace_file(file)?;
        self.events.rotated += 1;
        Ok(())
    }

    /// Nobody will ask for a sync: rotated files are not kept open for one, and give their room back when they are removed.
    pub fn never_syncs(&mut self) {
        self.owed.never();
    }

    /// What a sync must write now so that everything appended so far is safe.
    pub fn take_unsynced(&mut self) -> Unsynced {
        self.owed.begin(self.file.clone())
    }

    /// How that sync went.
    pub fn end_sync(&mut self, succeeded: bool) {
        self.owed.end(succeeded);
    }

    /// Rotated files after this one may still be written to: nobody may compress or remove them.
    pub fn newest_finished(&self) -> u64 {
        self.newest_finished
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Stopped> {
        let mut written = 0;
        while written < lines.len() {
            match (&*self.file).write(&lines[written..]) {
                Ok(0) => return Err(self.cut_back(lines, written, ErrorKind::WriteZero.into())),
                Ok(n) => {
                    written += n;
                    self.file_bytes += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.cut_back(lines, written, e)),
            }
        }
        if self.rotation == Rotation::MidLine {
            self.rotation = if self.is_at_path() { Rotation::InPlace } else { Rotation::Renamed };
        }
        Ok(())
    }

    /// A full disk may take half a line; that half is taken out again, so that a reader, and the file after a
    /// crash, sees whole lines only.
    fn cut_back(&mut self, lines: &[u8], written: usize, error: io::Error) -> Stopped {
        let whole = lines[..written].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        if whole == written {
            return Stopped { kept_bytes: written, error };
        }
        let cut = || {
            // The size is asked for, not remembered: somebody may have truncated the file from outside.
            let end = self.file.metadata()?.len();
            self.file.set_len(end.saturating_sub((written - whole) as u64))
        };
        match cut() {
            Ok(()) => {
                self.file_bytes -= (written - whole) as u64;
                Stopped { kept_bytes: whole, error }
            }
            Err(_) => {
                self.rotation = Rotation::MidLine;
                Stopped { kept_bytes: written, error }
            }
        }
    }

    /// A file that was moved or removed from under us without a SIGHUP would swallow every further line.
    fn look_after_path(&mut self) {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked_at = Instant::now();
        if let Ok(metadata) = self.file.metadata() {
            self.file_bytes = metadata.len(); // less than we wrote after a copytruncate
        }
        if self.rotation == Rotation::InPlace && !self.is_at_path() {
            match self.reopen() {
                Ok(()) => {
                    tracing::warn!(path = %self.path.display(), "the file was moved or removed, opened a new one");
                }
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, "the file was moved or removed and cannot be opened again");
                }
            }
        }
    }

    fn rotate_if_possible(&mut self) {
        if self.rotate_not_before.is_some_and(|earliest| Instant::now() < earliest) {
            return;
        }
        self.rotate_not_before = None;
        if let Err(error) = self.rotate() {
            self.events.rotation_failed += 1;
            self.rotate_not_before = Some(Instant::now() + LOOK_EVERY);
            tracing::error!(path = %self.path.display(), %error, "cannot rotate, going on in the same file");
        }
    }

    fn replace_file(&mut self, file: File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let old = std::mem::replace(&mut self.file, Arc::new(file));
        self.owed.replaced(old);
        self.file_bytes = metadata.len();
        (self.age_at_open, self.opened) = (Duration::ZERO, Instant::now());
        self.rotation = Rotation::InPlace;
        self.newest_finished = self.next_number - 1;
        Ok(())
    }

    fn is_at_path(&self) -> bool {
        let same = || -> io::Result<bool> {
            let (ours, there) = (self.file.metadata()?, std::fs::metadata(&self.path)?);
            Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        };
        same().unwrap_or(false)
    }
}

/// Of an unknown one: it is not old.
fn age(metadata: &Metadata) -> Duration {
    let since = metadata.created().or_else(|_| metadata.modified());
    since.ok().and_then(|since| SystemTime::now().duration_since(since).ok()).unwrap_or_default()
}

fn open(path: &Path) -> io::Result<File> {
    appending().create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::housekeeping;

    const FIRST: &str = "node_log.000001-20260101T000000Z";

    fn never() -> Policy {
        Policy { rotate_bytes: 0, rotate_age: Duration::ZERO, keep_files: 0, keep_bytes: 0 }
    }

    fn journal(policy: Policy) -> (tempfile::TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let (journal, torn) = Journal::open(&directory.path().join("node_log"), policy).unwrap();
        assert!(!torn);
        (directory, journal)
    }

    fn content(directory: &tempfile::TempDir, name: &str) -> String {
        std::fs::read_to_string(directory.path().join(name)).unwrap()
    }

    #[test]
    fn what_a_crash_tore_is_mended_once_also_in_rotated_files() {
        for (name, torn) in [("node_log", "whole\nhal"), (FIRST, "whole\nhal\0\0")] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("node_log");
            std::fs::write(directory.path().join(name), torn).unwrap();
            assert!(Journal::open(&path, never()).unwrap().1);
            assert!(!Journal::open(&path, never()).unwrap().1);
            assert_eq!(content(&directory, name), "whole\nhal\n");
        }
    }

    #[test]
    fn rotation_loses_and_repeats_nothing_and_numbers_go_on_after_a_restart() {
        let (directory, mut journal) = journal(Policy { rotate_bytes: 10, ..never() });
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            journal.append(line.as_bytes()).unwrap();
        }
        drop(journal);
        let path = directory.path().join("node_log");
        let (mut journal, _) = Journal::open(&path, never()).unwrap();
        journal.rotate().unwrap();
        journal.append(b"five\n").unwrap();
        let rotated = rotated::list(&path).unwrap();
        let numbers: Vec<_> = rotated.iter().map(|file| file.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        let all: String = rotated.iter().map(|file| content(&directory, &file.name)).collect();
        assert_eq!(all + &content(&directory, "node_log"), "one\ntwo\nthree\nfour\nfive\n");
    }

    #[test]
    fn a_moved_file_is_noticed_without_being_told() {
        let (directory, mut journal) = journal(never());
        journal.append(b"one\n").unwrap();
        std::fs::rename(directory.path().join("node_log"), directory.path().join("moved")).unwrap();
        journal.looked_at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        journal.append(b"two\n").unwrap();
        assert_eq!(
            (content(&directory, "moved"), content(&directory, "node_log")),
            ("one\n".into(), "two\n".into())
        );
        assert_eq!(journal.events.reopened, 1);
    }

    #[test]
    fn when_the_successor_cannot_be_made_the_file_stays_where_it_is_until_it_can() {
        let (directory, mut journal) = journal(Policy { rotate_bytes: 5, ..never() });
        let in_the_way = directory.path().join(".node_log.new");
        std::fs::create_dir(&in_the_way).unwrap();
        journal.append(b"one\n").unwrap();
        journal.append(b"two\n").unwrap();
        assert_eq!(journal.events.rotation_failed, 1);
        assert_eq!(content(&directory, "node_log"), "one\ntwo\n");
        std::fs::remove_dir(&in_the_way).unwrap();
        journal.rotate_not_before = None;
        journal.append(b"three\n").unwrap();
        assert_eq!(content(&directory, "node_log"), "three\n");
        let rotated = rotated::list(&directory.path().join("node_log")).unwrap();
        assert_eq!(content(&directory, &rotated[0].name), "one\ntwo\n");
    }

    /// The first rotation came half way: "one" is in the renamed file, and what is in the way keeps the successor out.
    fn half_rotated() -> (tempfile::TempDir, Journal) {
        let (directory, mut journal) = journal(never());
        journal.append(b"one\n").unwrap();
        let path = directory.path().join("node_log");
        std::fs::rename(&path, directory.path().join(FIRST)).unwrap();
        journal.rotation = Rotation::Renamed;
        journal.next_number += 1;
        // A directory that is not empty is what no file can be renamed to.
        std::fs::create_dir_all(path.join("in the way")).unwrap();
        journal.append(b"two\n").unwrap();
        assert_eq!(journal.events.rotation_failed, 1);
        std::fs::remove_dir_all(&path).unwrap();
        (directory, journal)
    }

    #[test]
    fn when_the_successor_cannot_take_its_place_lines_go_to_the_old_file_until_it_can() {
        let (directory, mut journal) = half_rotated();
        let tidy = |journal: &Journal| {
            let path = directory.path().join("node_log");
            housekeeping::tidy(&path, journal.newest_finished(), &never(), true).unwrap().compressed
        };
        assert_eq!(tidy(&journal), 0, "what is still written to is nobody's to compress");
        journal.append(b"three\n").unwrap();
        assert_eq!(content(&directory, FIRST), "one\ntwo\nthree\n");
        journal.rotate_not_before = None;
        journal.append(b"four\n").unwrap();
        assert_eq!(content(&directory, FIRST), "one\ntwo\nthree\n");
        assert_eq!(content(&directory, "node_log"), "four\n");
        assert_eq!(tidy(&journal), 1);
    }

    #[test]
    fn who_asks_for_another_file_in_the_middle_of_a_rotation_gets_one_that_stays() {
        let (directory, mut journal) = half_rotated();
        journal.reopen().unwrap();
        for line in ["three\n", "four\n"] {
            journal.append(line.as_bytes()).unwrap();
            journal.rotate_not_before = None;
        }
        assert_eq!(content(&directory, "node_log"), "three\nfour\n");
        assert_eq!(journal.newest_finished(), 1);
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node_log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Journal::open(&path, never()).unwrap_err().one_line().contains("not a regular file"));
    }
}
