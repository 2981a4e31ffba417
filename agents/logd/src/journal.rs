//! The file: whole lines appended to it, put away when due, found again after a crash or a move.

use crate::mending::mend_end;
use crate::rotation::{Policy, Rotated, rotated_name};
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often to look whether the path still leads to the open file, and to try a failed rotation again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many of the newest rotated files are looked at in the beginning. Where compression lags behind rotation, a power loss may
/// tear many of them; where files are not compressed at all, looking at each of thousands would keep the start waiting.
const MENDED_MAX: usize = 1024;

/// So many of them are kept open for the first sync: older ones were synced by the last run, or written by the system.
const MAYBE_UNSYNCED_MAX: usize = 64;

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

/// Files whose last bytes may not be on the disk yet, and the directory when an entry in it may be new.
#[derive(Clone, Debug, Default)]
pub struct Unsynced {
    files: Vec<Arc<File>>,
    directory: Option<Arc<File>>,
}

impl Unsynced {
    /// Blocks until everything is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync_data())?;
        // Not only its data: on ext4 fdatasync leaves a new entry for later, and the file has no name after a power loss.
        self.directory.iter().try_for_each(|directory| directory.sync_all())
    }
}

/// The open file and its place in the directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    directory: Arc<File>,
    /// Held for as long as this process writes the file.
    _lock: File,
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
    /// Rotated files, and the directory, that the next sync must include.
    unsynced: Unsynced,
    /// What the sync under way includes.
    syncing: Unsynced,
    /// Whether there will ever be a sync.
    syncs: bool,
    pub events: Events,
}

/// Putting the file away takes two steps, and each may fail and be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// The open file has its proper name.
    InPlace,
    /// It was renamed, but its successor could not take its place: lines still go to the renamed one.
    PutAway,
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
        let lock = lock(path)?;
        let file = open(path).map_err(|e| refused("write to", path, e))?;
        let metadata = || file.metadata().map_err(|e| refused("examine", path, e));
        if !metadata()?.is_file() {
            return Err(Fatal::new(Exit::Failure, format!("{} is not a regular file", path.display())));
        }
        let mut torn = mend_end(&file).map_err(|e| refused("mend the end of", path, e))?;
        let metadata = metadata()?;
        let rotated = list_rotated(path).map_err(|e| refused("list", &parent, e))?;
        let directory = Arc::new(directory);
        let newest_number = rotated.last().map_or(0, |newest| newest.number);
        // They may be as new as this one, where the last run was killed.
        let mut files = Vec::new();
        let uncompressed = rotated.iter().rev().filter(|file| !file.compressed).take(MENDED_MAX);
        for name in uncompressed.map(|file| &file.name) {
            let path = path.with_file_name(name);
            match appending().open(&path).and_then(|file| Ok((mend_end(&file)?, file))) {
                Ok((mended, file)) => {
                    torn |= mended;
                    if files.len() < MAYBE_UNSYNCED_MAX {
                        files.push(Arc::new(file));
                    }
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot look after a rotated file");
                }
            }
        }
        let journal = Journal {
            path: path.to_owned(),
            unsynced: Unsynced { files, directory: Some(directory.clone()) },
            syncing: Unsynced::default(),
            syncs: true,
            directory,
            _lock: lock,
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
        let pending = self.rotation == Rotation::PutAway;
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

    /// Puts the file away now. Its successor is made first, under a name of its own: what can fail fails there,
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
            self.rotation = Rotation::PutAway;
        }
        std::fs::rename(&unborn, &self.path)?;
        self.replace_file(file)?;
        self.events.rotated += 1;
        Ok(())
    }

    /// Nobody will ask for a sync: rotated files are not kept open for one, and give their room back when they are removed.
    pub fn never_syncs(&mut self) {
        self.syncs = false;
        self.unsynced = Unsynced::default();
    }

    /// What a sync must write now so that everything appended so far is safe.
    pub fn take_unsynced(&mut self) -> Unsynced {
        self.end_sync(false); // one that was given up, if any
        self.syncing = std::mem::take(&mut self.unsynced);
        self.syncing.files.push(self.file.clone());
        self.syncing.clone()
    }

    /// How that sync went. One that failed may not have come to everything: the next must include it again.
    pub fn end_sync(&mut self, succeeded: bool) {
        let mut tried = std::mem::take(&mut self.syncing);
        if !succeeded {
            tried.files.pop(); // is included anyway, or was rotated since
            self.unsynced.files.append(&mut tried.files);
            self.unsynced.directory = self.unsynced.directory.take().or(tried.directory);
        }
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
            self.rotation = if self.is_at_path() { Rotation::InPlace } else { Rotation::PutAway };
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
        if self.syncs {
            self.unsynced.files.push(old);
            self.unsynced.directory = Some(self.directory.clone());
        }
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

/// The rotated files of `path`, oldest first. While one is being compressed it is there twice; the
/// uncompressed one is listed.
pub fn list_rotated(path: &Path) -> io::Result<Vec<Rotated>> {
    let base = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let bytes = entry.metadata().map_or(0, |m| m.len());
        found.extend(Rotated::parse(&base, &entry.file_name().to_string_lossy(), bytes));
    }
    found.sort_by_key(|file| (file.number, file.compressed));
    found.dedup_by_key(|file| file.number);
    Ok(found)
}

/// Of an unknown one: it is not old.
fn age(metadata: &Metadata) -> Duration {
    let since = metadata.created().or_else(|_| metadata.modified());
    since.ok().and_then(|since| SystemTime::now().duration_since(since).ok()).unwrap_or_default()
}

/// The directory that holds `path`.
pub fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn open(path: &Path) -> io::Result<File> {
    appending().create(true).mode(0o640).open(path)
}

fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Non-blocking: a FIFO in the file's place must be an error, not a hang.
    options.read(true).append(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
    options
}

/// The lock is a file of its own: the log's own inode changes with every rotation.
fn lock(path: &Path) -> Result<File, Fatal> {
    let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
    let lock_path = path.with_file_name(name);
    let refused =
        |e: io::Error| Fatal::new(Exit::Failure, format!("cannot lock {}", lock_path.display())).because(e);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(&lock_path)
        .map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let path = path.display();
            let holder = holder.trim();
            return Err(Fatal::new(
                Exit::TryAgain,
                format!("another logd (process {holder}) writes {path}; stop it or choose another --file"),
            ));
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(refused(e)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(refused)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::housekeeping;

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
    fn what_a_failed_sync_may_not_have_come_to_is_in_the_next() {
        let (_directory, mut journal) = journal(never());
        assert!(journal.take_unsynced().directory.is_some(), "its entry is new");
        journal.rotate().unwrap();
        for _ in 0..2 {
            journal.end_sync(false);
            let again = journal.take_unsynced();
            assert_eq!((again.files.len(), again.directory.is_some()), (2, true));
        }
        let after_one_that_was_given_up = journal.take_unsynced();
        assert_eq!(after_one_that_was_given_up.files.len(), 2);
        journal.end_sync(true);
        let next = journal.take_unsynced();
        assert_eq!((next.files.len(), next.directory.is_some()), (1, false));
    }

    #[test]
    fn what_a_crash_tore_is_mended_once_also_where_it_was_put_away() {
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
        let rotated = list_rotated(&path).unwrap();
        let numbers: Vec<_> = rotated.iter().map(|file| file.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        let all: String = rotated.iter().map(|file| content(&directory, &file.name)).collect();
        assert_eq!(all + &content(&directory, "node_log"), "one\ntwo\nthree\nfour\nfive\n");
    }

    #[test]
    fn a_second_writer_is_told_who_the_first_is() {
        let (directory, _journal) = journal(never());
        let fatal = Journal::open(&directory.path().join("node_log"), never()).unwrap_err();
        assert_eq!(fatal.exit(), Exit::TryAgain);
        assert!(fatal.one_line().contains(&format!("process {}", std::process::id())), "{fatal}");
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
        let rotated = list_rotated(&directory.path().join("node_log")).unwrap();
        assert_eq!(content(&directory, &rotated[0].name), "one\ntwo\n");
    }

    /// The first rotation came half way: "one" is in the renamed file, and what is in the way keeps the successor out.
    fn half_rotated() -> (tempfile::TempDir, Journal) {
        let (directory, mut journal) = journal(never());
        journal.append(b"one\n").unwrap();
        let path = directory.path().join("node_log");
        std::fs::rename(&path, directory.path().join(FIRST)).unwrap();
        journal.rotation = Rotation::PutAway;
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
