//! A file to archive, as one look at the log directories finds it.

use crate::archive::file_stamp::FileStamp;

/// A file to archive, named as its entry: relative to its log directory, with that directory's base before
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedFile {
    pub name: Vec<u8>,
    pub stamp: FileStamp,
    /// The number of its names.
    pub links: u64,
}
