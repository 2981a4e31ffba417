//! The log on the disk: segments of checksummed groups, written by one thread, cleaned by another.
//!
//! A *group* is what was written at once; it is there whole or not at all. Segments are filled one after the
//! other, and each begins with what is known of every queue, so that the oldest can go once the items that
//! still live in it have been written anew at the end. Files are zero-filled or recycled before they are
//! used: a sync then has no blocks to allocate, which makes it twice as fast.

pub mod frame;
pub mod front;
pub mod housekeeping;
pub mod reading;
pub mod repair;
pub mod segment;
pub mod writer;

use kit::lock::Holder;
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
