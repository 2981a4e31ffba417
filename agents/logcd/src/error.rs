//! The errors that stop a cycle. The published archive stays as it was after each of them.

use crate::archive::pack_error::PackError;
use kit::disk::free_space::MinFree;
use kit::disk::lock::Holder;
use std::io;
use std::path::Path;

/// Describes a directory that was removed while it is mounted, with the way out.
pub const REMOVED_BELOW_MOUNT: &str = "removed below its mount, where a new one cannot appear: restart logcd \
                                       (in Kubernetes: delete the pod)";

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    #[error("the disk is full: {free} bytes are free, {needed} are needed, --min-free {floor} included")]
    DiskFull { free: u64, needed: u64, floor: MinFree },
    #[error("the directory for archives, {path}, was {how}")]
    DirMoved { path: String, how: &'static str },
    #[error("the namespace {namespace} cannot be archived: {why}")]
    NamespaceRefused { namespace: String, why: String },
    #[error("another logcd{holder} uses {path}; only one may use a directory")]
    Locked { path: String, holder: Holder },
    #[error("the archive {0} was changed by another process while it was read")]
    ArchiveChanged(String),
    #[error("the archive {name} cannot be read: {why}")]
    ArchiveDamaged { name: String, why: String },
    #[error("stopped before the cycle was done")]
    Aborted,
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl ArchiveError {
    /// Returns a function for `map_err` that adds the attempted action to an I/O error.
    pub fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ArchiveError {
        let doing = doing.into();
        move |source| ArchiveError::Io { doing, source }
    }

    pub fn on(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
        ArchiveError::doing(format!("{verb} {}", path.display()))
    }

    /// Returns the message with its cause, for a list of reasons.
    pub fn one_line(&self) -> String {
        match self {
            ArchiveError::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }

    /// True if more free space would help.
    pub fn is_disk_full(&self) -> bool {
        match self {
            ArchiveError::DiskFull { .. } => true,
            ArchiveError::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
                )
            }
            _ => false,
        }
    }
}
