//! The file: whole lines are appended to it, it is rotated when due, and found again after a crash or a move.
//!
//! Lines count as written once a look after the write found the file under its name. Nobody had moved or
//! removed it before then, so whoever does so later has these lines. Lines without this confirmation are
//! taken back and go into the next file.

use crate::file::carry_over::CarryOver;
use crate::file::inode::{Inode, is_removed};
use crate::file::lock;
use crate::file::mending::mend_end;
use crate::file::obstacle::Obstacle;
use crate::file::rotated::{self, appending, directory_of};
use crate::file::rotation::{Policy, rotated_name};
use crate::file::unsynced::{Owed, Unsynced};
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Interval for checking the file's length, the lock and the free space, and for retrying a failed rotation.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes after which the checks run early, since a fast sender fills a disk in less than the interval.
const LOOK_EVERY_BYTES: u64 = 4 * 1024 * 1024;
/// Age up to which a look at the name need not be repeated before a write, since another follows it.
const NAME_IS_FRESH: Duration = Duration::from_millis(1);
/// Time for a logrotate to create the next file, which it does at once after the move. A file of ours would
/// be in its way.
const MOVER_CREATES_WITHIN: Duration = Duration::from_millis(100);
/// Attempts per append. A file may be moved between the looks before and after a write, but hardly twice in
/// succession.
const APPEND_TRIES: usize = 3;

/// The result of an append that could not be finished.
#[derive(Debug)]
pub struct Stopped {
    /// Number of bytes that are in the file and stay there.
    pub kept_bytes: usize,
    pub obstacle: Obstacle,
}

impl From<Obstacle> for Stopped {
    fn from(obstacle: Obstacle) -> Stopped {
        Stopped { kept_bytes: 0, obstacle }
    }
}

/// Events of the file, for metrics and the housekeeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pub rotated: u64,
    pub reopened: u64,
    pub rotation_failed: u64,
    pub carried_over_bytes: u64,
    /// True if rotated files should be removed to free space.
    pub room_wanted: bool,
}

/// The open file and its place in the directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<File>,
    inode: Inode,
    /// Current name of the open file: `path`, or its rotated name in the middle of a rotation.
    name: PathBuf,
    naming: Naming,
    /// Time at which the file was last seen under its name.
    named_at: Option<Instant>,
    /// An unfinished copy whose successor was lost: it goes on if that is found again, and starts again for
    /// the next one.
    uncarried: Option<CarryOver>,
    file_bytes: u64,
    /// Age of the file when it was opened; from then on a monotonic clock counts, which nobody sets.
    age_at_open: Duration,
    opened: Instant,
    policy: Policy,
    next_number: u64,
    /// Number of the newest rotated file that is complete. While a rotation is half done, it is not the
    /// number of the newest file.
    newest_finished: u64,
    rotation: Rotation,
    looked_at: Instant,
    bytes_since_look: u64,
    is_short_of_space: bool,
    /// Set after a failed rotation, so that not every batch retries it.
    rotate_not_before: Option<Instant>,
    owed: Owed,
    pub events: Events,
}

/// State of the open file's name.
#[derive(Debug)]
enum Naming {
    Named,
    /// The name leads to no file, or to another one.
    Nameless {
        since: Instant,
        /// True if an attempt to make another file failed.
        refused: bool,
    },
    /// A new file is under the name. The content of the removed one is being carried over into it.
    Carrying(CarryOver),
}

/// State of a rotation. It takes two steps, and each may fail and be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// The open file has its proper name.
    InPlace,
    /// The open file was renamed, but its successor could not take its place: lines still go to the old one.
    Renamed,
    /// The open file ends within a line, since even cutting it back failed. Nothing may come between the two
    /// parts of that line.
    MidLine,
}

impl Journal {
    /// Opens or creates the file, takes its lock and mends what a crash tore. True if anything was torn.
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
        // Rotated files may be as recent as the open one, where the last run was killed.
        let mended = rotated::mend(path, &rotated);
        torn |= mended.torn;
        let journal = Journal {
            path: path.to_owned(),
            owed: Owed::new(directory, mended.unsynced, lock),
            inode: Inode::from(&metadata),
            name: path.to_owned(),
            naming: Naming::Named,
            named_at: None,
            uncarried: None,
            file: Arc::new(file),
            file_bytes: metadata.len(),
            age_at_open: age(&metadata),
            opened: Instant::now(),
            policy,
            next_number: newest_number + 1,
            newest_finished: newest_number,
            rotation: Rotation::InPlace,
            looked_at: Instant::now(),
            bytes_since_look: LOOK_EVERY_BYTES,
            is_short_of_space: false,
            rotate_not_before: None,
            events: Events::default(),
        };
        Ok((journal, torn))
    }

    /// Adds whole lines to a file that has its name before and after. On failure the file still ends with a
    /// whole line wherever the system allows it. Without lines, only checks if any could be added.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Stopped> {
        for _ in 0..APPEND_TRIES {
            self.be_named(!lines.is_empty())?;
            self.look_around()?;
            let age = self.age_at_open + self.opened.elapsed();
            let pending = self.rotation == Rotation::Renamed;
            let due = pending || self.policy.is_due(self.file_bytes, age, lines.len());
            if due && !lines.is_empty() {
                self.rotate_if_possible();
            }
            let ends_a_torn_line = self.rotation == Rotation::MidLine;
            let (kept_bytes, obstacle) = match self.write(lines) {
                Ok(()) => (lines.len(), None),
                Err(Stopped { kept_bytes, obstacle }) => (kept_bytes, Some(obstacle)),
            };
            if kept_bytes == 0 || ends_a_torn_line || self.has_name() {
                return match obstacle {
                    None => Ok(()),
                    Some(obstacle) => Err(Stopped { kept_bytes, obstacle }),
                };
            }
            self.take_back(kept_bytes);
        }
        Err(Obstacle::Passing.into())
    }

    /// Follows an outside logrotate: opens the path again if it leads to another file by now.
    pub fn reopen(&mut self) -> Result<(), Obstacle> {
        if self.inode.is_at(&self.path) || self.rotation == Rotation::MidLine {
            return Ok(());
        }
        self.succeed(MoverHas::Finished)
    }

    /// Rotates the file now. Its successor is made first, under a temporary name: whatever can fail fails
    /// there, with the file still in its place.
    pub fn rotate(&mut self) -> io::Result<()> {
        if self.rotation == Rotation::MidLine {
            return Err(io::Error::other("the last line is not complete"));
        }
        let base = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unborn = self.path.with_file_name(format!(".{base}.new"));
        let file = open(&unborn)?;
        file.set_len(0)?; // left by a crash between the steps
        if self.rotation == Rotation::InPlace {
            let name = self.path.with_file_name(rotated_name(&base, self.next_number, Timestamp::now()));
            std::fs::rename(&self.path, &name)?;
            self.next_number += 1;
            self.rotation = Rotation::Renamed;
            self.name = name;
        }
        std::fs::rename(&unborn, &self.path)?;
        self.replace_file(file)?;
        self.events.rotated += 1;
        Ok(())
    }

    /// Replaces the bounds.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.bytes_since_look = LOOK_EVERY_BYTES;
    }

    /// Declares that no sync will be requested. Rotated files are then not kept open for one, and their space
    /// is freed as soon as they are removed.
    pub fn never_syncs(&mut self) {
        self.owed.never();
    }

    /// Returns what a sync must write now so that everything appended so far is safe.
    pub fn take_unsynced(&mut self) -> Unsynced {
        self.owed.begin(self.file.clone())
    }

    /// Records the result of the sync in progress.
    pub fn end_sync(&mut self, succeeded: bool) {
        self.owed.end(succeeded);
    }

    /// Returns the number of the newest complete rotated file. Later ones may still be written to: nobody may
    /// compress or remove them.
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
                    self.bytes_since_look += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.cut_back(lines, written, e)),
            }
        }
        if self.rotation == Rotation::MidLine && !lines.is_empty() {
            self.rotation = if self.name == self.path { Rotation::InPlace } else { Rotation::Renamed };
        }
        Ok(())
    }

    /// Removes the half line that a full disk may have taken, so that a reader, and the file after a crash,
    /// sees whole lines only.
    fn cut_back(&mut self, lines: &[u8], written: usize, error: io::Error) -> Stopped {
        let obstacle = Obstacle::Write(error);
        let whole = lines[..written].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        if whole == written || self.take_back(written - whole) {
            return Stopped { kept_bytes: whole, obstacle };
        }
        self.rotation = Rotation::MidLine;
        Stopped { kept_bytes: written, obstacle }
    }

    /// Removes the last bytes from the file again. False if the system refuses.
    fn take_back(&mut self, bytes: usize) -> bool {
        let cut = || {
            // The size is queried, not remembered: somebody may have truncated the file from outside.
            let end = self.file.metadata()?.len();
            self.file.set_len(end.saturating_sub(bytes as u64))
        };
        let taken: io::Result<()> = cut();
        if taken.is_ok() {
            self.file_bytes = self.file_bytes.saturating_sub(bytes as u64);
        }
        taken.is_ok()
    }

    /// Checks if the file is under its name, and remembers the time if it is.
    fn has_name(&mut self) -> bool {
        let named = self.inode.is_at(&self.name);
        self.named_at = named.then(Instant::now);
        named
    }

    /// Ensures that a file is under the name, and that it holds everything that it should.
    fn be_named(&mut self, before_a_write: bool) -> Result<(), Obstacle> {
        let fresh = || self.named_at.is_some_and(|at| at.elapsed() < NAME_IS_FRESH);
        if before_a_write && matches!(self.naming, Naming::Named) && fresh() {
            return Ok(());
        }
        if self.has_name() {
            if let Naming::Nameless { refused, .. } = self.naming {
                // This happens when the directory was moved away and back.
                if refused {
                    tracing::info!(path = %self.name.display(), "the file is under its name again");
                }
                self.naming = self.uncarried.take().map_or(Naming::Named, Naming::Carrying);
            }
            return self.carry_on();
        }
        // The rest of a line belongs after its beginning, wherever that file is by now.
        if self.rotation == Rotation::MidLine && !is_removed(&self.file) {
            return Ok(());
        }
        self.succeed(MoverHas::MaybeNotFinished)
    }

    /// Opens a file under the path, in place of one that lost its name.
    fn succeed(&mut self, mover_has: MoverHas) -> Result<(), Obstacle> {
        let (since, refused) = match std::mem::replace(&mut self.naming, Naming::Named) {
            Naming::Named => (Instant::now(), false),
            Naming::Nameless { since, refused } => (since, refused),
            Naming::Carrying(carry) => {
                self.uncarried = Some(carry);
                (Instant::now(), true)
            }
        };
        self.naming = Naming::Nameless { since, refused };
        let removed = is_removed(&self.file);
        let directory_changed = !self.owed.directory_is_at(&directory_of(&self.path));
        let mover_may_create = mover_has == MoverHas::MaybeNotFinished
            && !removed
            && !directory_changed
            && since.elapsed() < MOVER_CREATES_WITHIN;
        if mover_may_create && !self.path.exists() {
            return Err(Obstacle::Passing);
        }
        let file = match self.make_successor(directory_changed) {
            Ok(file) => file,
            Err(obstacle) => {
                self.naming = Naming::Nameless { since, refused: true };
                return Err(obstacle);
            }
        };
        // Removing only the file discards its lines, as with any log. A directory that is removed, or that
        // accepts no new file, is an accident.
        let torn = self.rotation == Rotation::MidLine;
        let by_accident = removed && (directory_changed || refused || torn);
        let source = self.uncarried.take().map(CarryOver::into_source);
        let source = source.or_else(|| by_accident.then(|| self.file.clone()));
        let replaced = self.replace_file(file);
        self.events.reopened += 1;
        if mover_has == MoverHas::MaybeNotFinished {
            tracing::warn!(path = %self.path.display(), "the file was moved or removed, opened a new one");
        }
        if let Some(source) = source {
            self.naming = Naming::Carrying(CarryOver::new(source));
        }
        replaced.map_err(Obstacle::NoName)?;
        match self.naming {
            Naming::Carrying(_) => self.carry_on(),
            _ => Ok(()),
        }
    }

    /// Makes the next file. A directory that was made again belongs to whoever locks it first.
    fn make_successor(&mut self, directory_changed: bool) -> Result<File, Obstacle> {
        if directory_changed {
            let directory = File::open(directory_of(&self.path)).map_err(Obstacle::NoName)?;
            self.owed.moved(directory, lock::take_again(&self.path)?);
        }
        let make = || {
            let file = open(&self.path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            mend_end(&file)?;
            let newest = rotated::list(&self.path)?.last().map_or(0, |newest| newest.number);
            Ok((file, newest))
        };
        let (file, newest) = make().map_err(Obstacle::NoName)?;
        self.next_number = self.next_number.max(newest.saturating_add(1));
        Ok(file)
    }

    fn carry_on(&mut self) -> Result<(), Obstacle> {
        let Naming::Carrying(carry) = &mut self.naming else { return Ok(()) };
        match carry.copy_piece(&self.file).map_err(Obstacle::NotCarriedOver)? {
            0 => {
                let bytes = carry.done_bytes();
                self.events.carried_over_bytes += bytes;
                tracing::warn!(path = %self.path.display(), bytes, "carried over what the removed file held");
                self.naming = Naming::Named;
                Ok(())
            }
            bytes => {
                self.file_bytes += bytes;
                Err(Obstacle::Passing)
            }
        }
    }

    /// Runs the checks that are too costly for every batch.
    fn look_around(&mut self) -> Result<(), Obstacle> {
        let due = self.looked_at.elapsed() >= LOOK_EVERY || self.bytes_since_look >= LOOK_EVERY_BYTES;
        if !due && !self.is_short_of_space {
            return Ok(());
        }
        if due {
            // While another writer has the lock, each attempt checks again.
            self.owed.keep_lock(&self.path)?;
            self.looked_at = Instant::now();
            self.bytes_since_look = 0;
            if let Ok(metadata) = self.file.metadata() {
                self.file_bytes = metadata.len(); // less than we wrote after a copytruncate
            }
        }
        self.leave_space(due)
    }

    fn leave_space(&mut self, due: bool) -> Result<(), Obstacle> {
        let floor = self.policy.min_free;
        // A file system that does not report its free space is filled.
        let short = self.owed.space().ok().filter(|space| floor.forbids(*space, 0));
        let was_short = std::mem::replace(&mut self.is_short_of_space, short.is_some());
        match short {
            None => Ok(()),
            Some(space) => {
                self.events.room_wanted |= due || !was_short;
                Err(Obstacle::LittleSpace { space, floor })
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
        self.inode = Inode::from(&metadata);
        self.name.clone_from(&self.path);
        self.naming = Naming::Named;
        self.file_bytes = metadata.len();
        (self.age_at_open, self.opened) = (Duration::ZERO, Instant::now());
        self.rotation = Rotation::InPlace;
        self.newest_finished = self.next_number - 1;
        Ok(())
    }
}

/// Progress of whoever moved the file: the next one may still be about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MoverHas {
    /// The mover has sent SIGHUP.
    Finished,
    MaybeNotFinished,
}

/// Returns the file's age. A file of unknown age counts as new.
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
    use kit::disk::free_space::MinFree;

    const FIRST: &str = "node_log.000001-20260101T000000Z";

    fn never() -> Policy {
        Policy {
            rotate_bytes: 0,
            rotate_age: Duration::ZERO,
            keep_files: 0,
            keep_bytes: 0,
            min_free: MinFree::Bytes(0),
        }
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
        let stopped = journal.append(b"two\n").unwrap_err();
        assert!(stopped.kept_bytes == 0 && stopped.obstacle.is_passing(), "who moved it may make the next");
        let long_ago = Instant::now().checked_sub(MOVER_CREATES_WITHIN).unwrap();
        journal.naming = Naming::Nameless { since: long_ago, refused: false };
        journal.append(b"two\n").unwrap();
        assert_eq!(
            (content(&directory, "moved"), content(&directory, "node_log")),
            ("one\n".into(), "two\n".into())
        );
        assert_eq!(journal.events.reopened, 1);
    }

    #[test]
    fn lines_written_into_a_moved_file_are_taken_back_and_go_into_the_next() {
        let (directory, mut journal) = journal(never());
        journal.append(b"one\n").unwrap();
        std::fs::rename(directory.path().join("node_log"), directory.path().join("moved")).unwrap();
        std::fs::write(directory.path().join("node_log"), "").unwrap();
        // Simulates a move between the look and the write.
        journal.named_at = Some(Instant::now() + LOOK_EVERY);
        journal.append(b"two\n").unwrap();
        assert_eq!(
            (content(&directory, "moved"), content(&directory, "node_log")),
            ("one\n".into(), "two\n".into())
        );
    }

    #[test]
    fn in_the_middle_of_a_rotation_a_removed_directory_is_noticed_as_well() {
        let (directory, mut journal) = half_rotated();
        std::fs::remove_dir_all(directory.path()).unwrap();
        let stopped = journal.append(b"three\n").unwrap_err();
        assert!(stopped.kept_bytes == 0 && matches!(stopped.obstacle, Obstacle::NoName(_)));
        std::fs::create_dir(directory.path()).unwrap();
        while journal.append(b"three\n").is_err() {}
        assert_eq!(content(&directory, "node_log"), "one\ntwo\nthree\n");
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

    /// Returns a journal whose first rotation is half done: "one" is in the renamed file, and an obstacle
    /// keeps the successor out of its place.
    fn half_rotated() -> (tempfile::TempDir, Journal) {
        let (directory, mut journal) = journal(never());
        journal.append(b"one\n").unwrap();
        let path = directory.path().join("node_log");
        std::fs::rename(&path, directory.path().join(FIRST)).unwrap();
        journal.rotation = Rotation::Renamed;
        journal.name = directory.path().join(FIRST);
        journal.next_number += 1;
        // No file can be renamed to a directory that is not empty.
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
