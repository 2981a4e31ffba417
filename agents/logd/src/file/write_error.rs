//! The reasons why lines cannot be written now.

use kit::disk::free_space::{MinFree, Space};
use std::io;

/// The reason why a write is not possible now; each attempt to write checks again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused the write, as on a full disk.
    #[error("cannot write: {0}")]
    Write(io::Error),
    #[error("the file was removed or moved away, and no new one can be created: {0}")]
    NoName(io::Error),
    /// A new file is there, but the content of the removed one cannot be copied into it, as on a full disk.
    #[error("cannot copy the lines of the removed file into the new one: {0}")]
    NotCarriedOver(io::Error),
    /// The path leads to another logd's file.
    #[error("{0}")]
    OtherWriter(String),
    #[error(
        "only {} of {} bytes are free, less than --min-free {floor}",
        space.available_bytes,
        space.capacity_bytes
    )]
    LittleSpace { space: Space, floor: MinFree },
    /// A retry succeeds within moments: the next file is being made, or lines are being carried over.
    #[error("the next file is being created")]
    Passing,
}

impl WriteError {
    /// True if the error need not be reported.
    pub fn is_passing(&self) -> bool {
        matches!(self, WriteError::Passing)
    }
}
