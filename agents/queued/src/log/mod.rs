//! The log on the disk: segments of groups with checksums.
//!
//! A *group* is the unit of writing; after a crash it is there whole or not at all. Segments are filled one
//! after the other, and each begins with the state of every queue. The oldest can therefore be removed once
//! the items that still live in it have been rewritten at the end. Files are zero-filled or recycled before
//! they are used: a sync then has no blocks to allocate, which makes it twice as fast.

pub mod backup;
pub mod backup_reader;
pub mod check;
pub mod directory;
pub mod disk;
pub mod frame;
pub mod head;
pub mod opening;
pub mod reading;
pub mod repair;
pub mod restore;
pub mod segment;
pub mod walk;

use kit::disk::lock::Holder;
use kit::exit::{Exit, Fatal};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {what} {path}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{dir} is in use by another queued{holder}; give this one its own --data directory")]
    InUse { dir: PathBuf, holder: Holder },
    #[error(
        "{path} is damaged at byte {offset}: {why}; `queued check {dir}` lists all damage, \
         `queued repair {dir}` keeps what can be read"
    )]
    Damaged { path: PathBuf, offset: u64, why: String, dir: PathBuf },
    #[error(
        "{path} {why}; `queued check {dir}` lists all damage, `queued repair {dir}` keeps what can be read, \
         `queued restore` brings back a backup"
    )]
    Incomplete { path: PathBuf, why: String, dir: PathBuf },
    #[error(
        "{dir} is in use by queued{holder}; stop it, or look at a backup: `queued backup {dir} --to FILE`"
    )]
    Busy { dir: PathBuf, holder: Holder },
    #[error(
        "{dir} does not lead to the directory that was opened ({why}); nothing is stored until that one is \
         back"
    )]
    Gone { dir: PathBuf, why: String },
    #[error(
        "{0} was removed or moved while it was in use; stop this queued, then `queued repair` keeps what is \
         left"
    )]
    Removed(PathBuf),
    #[error("{0} is not a data directory of queued: it has no log")]
    NoLog(PathBuf),
    #[error("{path} is not a backup of queued: {why}")]
    NoBackup { path: PathBuf, why: String },
    #[error(
        "{path} was written in version {version} of the format, this queued reads version {known}; use a newer queued"
    )]
    Version { path: PathBuf, version: u32, known: u32 },
}

impl LogError {
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError + use<> {
        let path = path.to_owned();
        move |source| LogError::Io { what, path, source }
    }

    /// Reports damage to a file of a data directory.
    pub fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> LogError {
        let dir = path.parent().unwrap_or(path).to_owned();
        LogError::Damaged { path: path.to_owned(), offset, why: why.into(), dir }
    }
}

/// Turns the error of a file that does not exist into `None`.
fn if_exists<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Maps a log error to an exit code.
impl From<LogError> for Fatal {
    fn from(error: LogError) -> Fatal {
        let exit = match error {
            LogError::InUse { .. } | LogError::Busy { .. } => Exit::TryAgain,
            LogError::Io { .. } => Exit::System,
            _ => Exit::Failure,
        };
        let fatal = Fatal::new(exit, error.to_string());
        match error.source().map(ToString::to_string) {
            Some(cause) => fatal.because(cause),
            None => fatal,
        }
    }
}
