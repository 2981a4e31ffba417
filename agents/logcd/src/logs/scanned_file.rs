//! A file to archive, as one look at the log directories finds it.

use crate::archive::file_stamp::FileStamp;

/// A file to archive. Its name is that of its entry: the path in its log directory, after that directory's
/// base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedFile {
    pub name: Vec<u8>,
    pub stamp: FileStamp,
    /// The number of the file's names.
    pub links: u64,
}
