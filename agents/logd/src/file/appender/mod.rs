//! Appends whole lines to the log file, rotates it when due, and recovers after a crash or if others move it.
//!
//! Lines count as written once a look after the write has found the file under its name. If somebody moves or
//! removes the file later, these lines are in it. Lines without this confirmation are taken back and written
//! to the next file.

mod carry_over;
mod naming;
mod rotation_state;
mod writing;

use crate::file::lock;
use crate::file::repair::repair_end;
use crate::file::rotated::{self, appending, directory_of};
use crate::file::rotation::{RotationPolicy, rotated_name};
use crate::file::unsynced::{FileSync, Unsynced};
use crate::file::write_error::WriteError;
use carry_over::CarryOver;
use jiff::Timestamp;
use kit::disk::inode::{Inode, is_removed};
use kit::exit::{Exit, Fatal};
use naming::{Mover, Naming};
use rotation_state::RotationState;
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Interval for checking the file's length, the lock and the free space, and for retrying a failed rotation.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes after which the checks run early, since a fast sender fills a disk in less than the interval.
const LOOK_EVERY_BYTES: u64 = 4 * 1024 * 1024;
/// Attempts per append. A file may be moved between the looks before and after a write, but hardly twice in
/// succession.
const APPEND_TRIES: usize = 3;

/// The result of an append that could not be finished.
#[derive(Debug)]
pub struct AppendError {
    /// Number of bytes that are in the file and stay there.
    pub kept_bytes: usize,
    pub cause: WriteError,
}

impl From<WriteError> for AppendError {
    fn from(cause: WriteError) -> AppendError {
        AppendError { kept_bytes: 0, cause }
    }
}

/// Events of the file, for metrics and the housekeeping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileEvents {
    pub rotated: u64,
    pub reopened: u64,
    pub rotation_failed: u64,
    pub carried_over_bytes: u64,
    /// True if rotated files should be removed to free space.
    pub room_wanted: bool,
}

/// The open file and its place in the directory.
#[derive(Debug)]
pub struct Appender {
    path: PathBuf,
    file: Arc<File>,
    inode: Inode,
    /// Current name of the open file: `path`, or its rotated name in the middle of a rotation.
    name: PathBuf,
    naming: Naming,
    /// Time at which the file was last seen under its name.
    named_at: Option<Instant>,
    /// An unfinished copy whose successor was lost. The copy continues if the successor is found again, and
    /// restarts for another one.
    uncarried: Option<CarryOver>,
    file_bytes: u64,
    /// Age of the file when it was opened; from then on a monotonic clock counts, which nobody sets.
    age_at_open: Duration,
    opened: Instant,
    policy: RotationPolicy,
    rotation: RotationState,
    looked_at: Instant,
    bytes_since_look: u64,
    is_short_of_space: bool,
    /// Set after a failed rotation, so that not every batch retries it.
    rotate_not_before: Option<Instant>,
    unsynced: Unsynced,
    pub events: FileEvents,
}

impl Appender {
    /// Opens or creates the file, takes its lock and repairs the damage of a crash. True if there was any.
    pub fn open(path: &Path, policy: RotationPolicy) -> Result<(Appender, bool), Fatal> {
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
        let mut torn = repair_end(&file).map_err(|e| refused("repair the end of", path, e))?;
        let metadata = metadata()?;
        let rotated = rotated::list(path).map_err(|e| refused("list", &parent, e))?;
        let newest_number = rotated.last().map_or(0, |newest| newest.number);
        // Rotated files may be as recent as the open one, where the last run was killed.
        let repaired = rotated::repair(path, &rotated);
        torn |= repaired.torn;
        let appender = Appender {
            path: path.to_owned(),
            unsynced: Unsynced::new(directory, repaired.unsynced, lock),
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
            rotation: RotationState::after(newest_number),
            looked_at: Instant::now(),
            bytes_since_look: LOOK_EVERY_BYTES,
            is_short_of_space: false,
            rotate_not_before: None,
            events: FileEvents::default(),
        };
        Ok((appender, torn))
    }

    /// Appends whole lines to a file that has its name before and after the write. After a failure the file
    /// still ends with a whole line if the system allows it. Without lines, only checks if a write is
    /// possible.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        for _ in 0..APPEND_TRIES {
            self.ensure_name(!lines.is_empty())?;
            self.check_periodically()?;
            let age = self.age_at_open + self.opened.elapsed();
            let due = self.rotation.is_half_done() || self.policy.is_due(self.file_bytes, age, lines.len());
            if due && !lines.is_empty() {
                self.rotate_if_possible();
            }
            let ends_a_torn_line = self.rotation.is_mid_line();
            let (kept_bytes, result) = match self.write(lines) {
                Ok(()) => (lines.len(), Ok(())),
                Err(error) => (error.kept_bytes, Err(error)),
            };
            let stays = kept_bytes == 0 || ends_a_torn_line || self.has_name();
            // If lines cannot be taken out of a moved file, they count as written: otherwise the next file
            // would repeat them.
            if stays || !(self.take_back(kept_bytes) || is_removed(&self.file)) {
                return result;
            }
        }
        Err(WriteError::Passing.into())
    }

    /// Follows logrotate: opens the path again if it leads to another file now.
    pub fn reopen(&mut self) -> Result<(), WriteError> {
        if self.inode.is_at(&self.path) || self.rotation.is_mid_line() {
            return Ok(());
        }
        self.open_next(Mover::Finished)
    }

    /// Rotates the file now. The successor is made first, under a temporary name: most failures happen there,
    /// with the file still in its place.
    pub fn rotate(&mut self) -> io::Result<()> {
        if self.rotation.is_mid_line() {
            return Err(io::Error::other("the last line is not complete"));
        }
        let base = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unborn = self.path.with_file_name(format!(".{base}.new"));
        let file = create_instead(&unborn)?;
        if self.rotation.is_in_place() {
            let name =
                self.path.with_file_name(rotated_name(&base, self.rotation.next_number(), Timestamp::now()));
            std::fs::rename(&self.path, &name)?;
            self.rotation.rename();
            self.name = name;
        }
        std::fs::rename(&unborn, &self.path)?;
        self.replace_file(file)?;
        self.events.rotated += 1;
        Ok(())
    }

    /// Replaces the bounds.
    pub fn set_policy(&mut self, policy: RotationPolicy) {
        self.policy = policy;
        self.bytes_since_look = LOOK_EVERY_BYTES;
    }

    /// Declares that no sync will be requested. Rotated files are then not kept open for one, and their space
    /// is freed as soon as they are removed.
    pub fn never_syncs(&mut self) {
        self.unsynced.never();
    }

    /// Returns what a sync must write now so that everything appended so far is safe.
    pub fn begin_sync(&mut self) -> FileSync {
        self.unsynced.begin(self.file.clone())
    }

    /// Records the result of the sync in progress.
    pub fn end_sync(&mut self, succeeded: bool) {
        self.unsynced.end(succeeded);
    }

    /// Returns the number of the newest complete rotated file. Later ones may still be written to: nobody may
    /// compress or remove them.
    pub fn newest_finished(&self) -> u64 {
        self.rotation.newest_finished()
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Runs the checks that are too costly for every batch.
    fn check_periodically(&mut self) -> Result<(), WriteError> {
        let due = self.looked_at.elapsed() >= LOOK_EVERY || self.bytes_since_look >= LOOK_EVERY_BYTES;
        if !due && !self.is_short_of_space {
            return Ok(());
        }
        if due {
            // While another writer has the lock, each attempt checks again.
            self.unsynced.keep_lock(&self.path)?;
            self.looked_at = Instant::now();
            self.bytes_since_look = 0;
            if let Ok(metadata) = self.file.metadata() {
                self.file_bytes = metadata.len(); // less than we wrote after a copytruncate
            }
        }
        self.leave_space(due)
    }

    fn leave_space(&mut self, due: bool) -> Result<(), WriteError> {
        let floor = self.policy.min_free;
        // If the file system does not report its free space, `--min-free` is ignored.
        let short = self.unsynced.space().ok().filter(|space| floor.forbids(*space, 0));
        let was_short = std::mem::replace(&mut self.is_short_of_space, short.is_some());
        match short {
            None => Ok(()),
            Some(space) => {
                self.events.room_wanted |= due || !was_short;
                Err(WriteError::LittleSpace { space, floor })
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
            tracing::error!(
                event = "rotation_failed",
                path = %self.path.display(),
                %error,
                "cannot rotate, continuing in the same file"
            );
        }
    }

    fn replace_file(&mut self, file: File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let old = std::mem::replace(&mut self.file, Arc::new(file));
        self.unsynced.replaced(old);
        self.inode = Inode::from(&metadata);
        self.name.clone_from(&self.path);
        self.naming = Naming::Named;
        self.file_bytes = metadata.len();
        (self.age_at_open, self.opened) = (Duration::ZERO, Instant::now());
        self.rotation.finish();
        Ok(())
    }
}

/// Returns the file's age. A file of unknown age counts as new.
fn age(metadata: &Metadata) -> Duration {
    let since = metadata.created().or_else(|_| metadata.modified());
    since.ok().and_then(|since| SystemTime::now().duration_since(since).ok()).unwrap_or_default()
}

fn open(path: &Path) -> io::Result<File> {
    appending().create(true).mode(0o640).open(path)
}

/// Creates a file. Removes another one of this name, which a crash left, or which is a link to a file that
/// must not be written to.
fn create_instead(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => appending().create_new(true).mode(0o640).open(path),
    }
}

#[cfg(test)]
mod tests;
