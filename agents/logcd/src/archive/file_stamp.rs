//! The stamp of a file: its identity, size and times, by which a change is noticed.

/// A point in a file system's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    pub s: i64,
    pub ns: u32,
}

/// The identity, size and times of a file at one look. Two equal stamps mean equal content, unless `racy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStamp {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
    /// True if the look came right after the last change, so that another change may have the same time.
    pub racy: bool,
}

impl FileStamp {
    /// Returns the device and inode.
    pub fn id(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }
}
