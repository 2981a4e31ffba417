//! The name of the open file: opens a new file after somebody moved or removed it, and carries over the lines
//! of a removed one.

use super::carry_over::CarryOver;
use super::{Appender, open};
use crate::file::lock;
use crate::file::repair::repair_end;
use crate::file::rotated::{self, directory_of};
use crate::file::write_error::WriteError;
use kit::disk::inode::is_removed;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

/// A look at the name younger than this is not repeated before a write, since another look follows the write.
const NAME_IS_FRESH: Duration = Duration::from_millis(1);
/// Time for logrotate to create the next file, which it does immediately after the move. A file made by logd
/// would be in its way.
pub(super) const MOVER_CREATES_WITHIN: Duration = Duration::from_millis(100);

/// State of the open file's name.
#[derive(Debug)]
pub(super) enum Naming {
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

/// Progress of the program that moved the file: it may still have to create the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mover {
    /// The mover has sent SIGHUP.
    Finished,
    MaybeNotFinished,
}

impl Appender {
    /// Checks if the file is under its name, and remembers the time if it is.
    pub(super) fn has_name(&mut self) -> bool {
        let named = self.inode.is_at(&self.name);
        self.named_at = named.then(Instant::now);
        named
    }

    /// Ensures that the open file has its name, and that the lines of a removed one are carried over.
    pub(super) fn ensure_name(&mut self, before_a_write: bool) -> Result<(), WriteError> {
        let fresh = || self.named_at.is_some_and(|at| at.elapsed() < NAME_IS_FRESH);
        if before_a_write && matches!(self.naming, Naming::Named) && fresh() {
            return Ok(());
        }
        if self.has_name() {
            if let Naming::Nameless { refused, .. } = self.naming {
                // This happens when the directory was moved away and back.
                if refused {
                    tracing::info!(
                        event = "file_restored",
                        path = %self.name.display(),
                        "the file has its name again"
                    );
                }
                self.naming = self.uncarried.take().map_or(Naming::Named, Naming::Carrying);
            }
            return self.copy_next_piece();
        }
        // The rest of a line must follow its beginning, wherever that file is now.
        if self.rotation.is_mid_line() && !is_removed(&self.file) {
            return Ok(());
        }
        self.open_next(Mover::MaybeNotFinished)
    }

    /// Opens a file under the path, in place of one that lost its name.
    pub(super) fn open_next(&mut self, mover: Mover) -> Result<(), WriteError> {
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
        let directory_changed = !self.unsynced.directory_is_at(&directory_of(&self.path));
        let mover_may_create = mover == Mover::MaybeNotFinished
            && !removed
            && !directory_changed
            && since.elapsed() < MOVER_CREATES_WITHIN;
        if mover_may_create && !self.path.exists() {
            return Err(WriteError::Passing);
        }
        let file = match self.make_successor(directory_changed) {
            Ok(file) => file,
            Err(error) => {
                self.naming = Naming::Nameless { since, refused: true };
                return Err(error);
            }
        };
        // Removing only the file discards its lines, as with any log. A directory that is removed, or that
        // accepts no new file, is an accident.
        let torn = self.rotation.is_mid_line();
        let by_accident = removed && (directory_changed || refused || torn);
        let source = self.uncarried.take().map(CarryOver::into_source);
        let source = source.or_else(|| by_accident.then(|| self.file.clone()));
        let replaced = self.replace_file(file);
        self.events.reopened += 1;
        if mover == Mover::MaybeNotFinished {
            tracing::warn!(
                event = "file_reopened",
                path = %self.path.display(),
                "the file was moved or removed, opened a new one"
            );
        }
        if let Some(source) = source {
            self.naming = Naming::Carrying(CarryOver::new(source));
        }
        replaced.map_err(WriteError::NoName)?;
        match self.naming {
            Naming::Carrying(_) => self.copy_next_piece(),
            _ => Ok(()),
        }
    }

    /// Makes the next file. In a directory that was created again, the first logd to lock it may write.
    fn make_successor(&mut self, directory_changed: bool) -> Result<File, WriteError> {
        if directory_changed {
            let directory = File::open(directory_of(&self.path)).map_err(WriteError::NoName)?;
            self.unsynced.moved(directory, lock::take_again(&self.path)?);
        }
        let make = || {
            let file = open(&self.path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            repair_end(&file)?;
            let newest = rotated::list(&self.path)?.last().map_or(0, |newest| newest.number);
            Ok((file, newest))
        };
        let (file, newest) = make().map_err(WriteError::NoName)?;
        self.rotation.number_after(newest);
        Ok(file)
    }

    fn copy_next_piece(&mut self) -> Result<(), WriteError> {
        let Naming::Carrying(carry) = &mut self.naming else { return Ok(()) };
        match carry.copy_piece(&self.file).map_err(WriteError::NotCarriedOver)? {
            0 => {
                let bytes = carry.done_bytes();
                self.events.carried_over_bytes += bytes;
                tracing::warn!(
                    event = "lines_carried_over",
                    path = %self.path.display(),
                    bytes,
                    "copied the lines of the removed file into the new one"
                );
                self.naming = Naming::Named;
                Ok(())
            }
            bytes => {
                self.file_bytes += bytes;
                Err(WriteError::Passing)
            }
        }
    }
}
