//! The failure of a compressor, which no input should cause.

/// The compressor failed.
#[derive(Debug, thiserror::Error)]
#[error("the compressor failed, which is a fault of this program: {0}")]
pub struct PackError(pub(crate) String);

impl PackError {
    pub(crate) fn thread_gone() -> PackError {
        PackError("its thread has ended".to_owned())
    }

    pub(crate) fn too_long() -> PackError {
        PackError("a block is longer than 4 GiB".to_owned())
    }
}
