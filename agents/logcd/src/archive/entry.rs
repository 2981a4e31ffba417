//! One archive member: its source, and the blocks that hold it.

use crate::archive::block::{Block, packed_len, plain_len};
use crate::archive::checksum::Sum;
use crate::archive::header;

/// The header fields other than name and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime_s: u64,
}

/// A point in a file system's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub s: i64,
    pub ns: u32,
}

/// The identity, size and times of a file at one look. Two equal stamps mean equal content, unless `racy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    /// The look came right after the last change, so that another change may have the same time.
    pub racy: bool,
}

/// The source of a member's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file that existed when the archive was made.
    Live(Stamp),
    /// An archive without an index, or a file that has to be compared in full: the file may hold something
    /// else now.
    Recovered,
    /// The former content of a file that was rotated, truncated, rewritten or deleted.
    Superseded,
}

/// One member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as in [`crate::archive::member`]; superseded entries end in a time.
    pub name: Vec<u8>,
    pub origin: Origin,
    pub meta: Meta,
    pub place: Place,
    pub blocks: Vec<Block>,
}

/// The position of a member in the archive: header, blocks and padding follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    /// The header with its padding.
    pub header_packed_len: u32,
    pub header: Sum,
    /// The zeros after the content.
    pub padding_packed_len: u32,
}

impl Entry {
    pub fn size(&self) -> u64 {
        plain_len(&self.blocks)
    }

    pub fn blocks_offset(&self) -> u64 {
        self.place.offset + u64::from(self.place.header_packed_len)
    }

    /// The length of the whole entry in the archive.
    pub fn packed_len(&self) -> u64 {
        u64::from(self.place.header_packed_len)
            + packed_len(&self.blocks)
            + u64::from(self.place.padding_packed_len)
    }

    /// The sum of the whole uncompressed entry.
    pub fn sum(&self) -> Sum {
        let padding = usize::try_from(header::padding_len(self.size())).unwrap_or(0);
        let content = self.blocks.iter().fold(self.place.header, |sum, block| sum.then(block.plain()));
        content.then(Sum::of(&[0; 512][..padding]))
    }

    /// The sum of the file alone.
    pub fn content(&self) -> Sum {
        self.blocks.iter().fold(Sum::default(), |sum, block| sum.then(block.plain()))
    }

    pub fn stamp(&self) -> Option<&Stamp> {
        match &self.origin {
            Origin::Live(stamp) => Some(stamp),
            Origin::Recovered | Origin::Superseded => None,
        }
    }
}
