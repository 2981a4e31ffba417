//! The log on the disk: segments of checksummed groups.
//!
//! A *group* is what was written at once; it is there whole or not at all. Segments are filled one after the
//! other, and each begins with what is known of every queue, so that the oldest can go once the items that
//! still live in it have been written anew at the end. Files are zero-filled or recycled before they are
//! used: a sync then has no blocks to allocate, which makes it twice as fast.

pub mod frame;
pub mod front;
pub mod reading;
pub mod repair;
pub mod segment;

use kit::exit::{Exit, Fatal};
use kit::lock::{Holder, Lock, Refused};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When an answer may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the records are on the disk.
    Always,
    /// When they are written; they are on the disk within this time.
    Interval(Duration),
    /// When they are written.
    None,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::Always => "always",
            Durability::Interval(_) => "interval",
            Durability::None => "none",
        }
    }
}

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
        "{path} was written in version {version} of the format, this queued reads version {known}; use a newer queued"
    )]
    Version { path: PathBuf, version: u32, known: u32 },
}

impl LogError {
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError + use<> {
        let path = path.to_owned();
        move |source| LogError::Io { what, path, source }
    }
}

/// What it is to the process.
impl From<LogError> for Fatal {
    fn from(error: LogError) -> Fatal {
        let exit = match error {
            LogError::InUse { .. } => Exit::TryAgain,
            LogError::Io { .. } => Exit::System,
            LogError::Damaged { .. } | LogError::Version { .. } => Exit::Failure,
        };
        let fatal = Fatal::new(exit, error.to_string());
        match error.source().map(ToString::to_string) {
            Some(cause) => fatal.because(cause),
            None => fatal,
        }
    }
}

/// Only one process may have a directory.
pub fn lock(dir: &Path) -> Result<Lock, LogError> {
    std::fs::create_dir_all(dir).map_err(LogError::io("make", dir))?;
    let path = dir.join("lock");
    Lock::at(&path, 0o644).map_err(|refused| match refused {
        Refused::Held(holder) => LogError::InUse { dir: dir.to_owned(), holder },
        Refused::Io(error) => LogError::io("lock", &path)(error),
    })
}
