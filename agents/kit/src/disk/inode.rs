//! The identity of a file, which shows if a name still leads to the same file.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file's identity. No other file gets the same one while somebody holds this file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub fn at(path: &Path) -> io::Result<Inode> {
        Ok(Inode::from(&std::fs::metadata(path)?))
    }

    pub fn of(file: &File) -> io::Result<Inode> {
        Ok(Inode::from(&file.metadata()?))
    }

    /// True if `path` leads to this file. Costs one system call.
    pub fn is_at(self, path: &Path) -> bool {
        Inode::at(path).is_ok_and(|there| there == self)
    }
}

impl From<&Metadata> for Inode {
    fn from(metadata: &Metadata) -> Inode {
        Inode { device: metadata.dev(), number: metadata.ino() }
    }
}

/// True if no name leads to the file any more, in any directory.
pub fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}
