//! What is known of one archive member: where it came from, and which blocks hold it.

use crate::archive::block::{Block, packed_len, plain_len};
use crate::archive::checksum::Sum;
use crate::archive::header;

/// What the header says besides name and size.
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

/// A file as one look at it found it. Two equal stamps mean the same content, unless `racy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    /// It was looked at so soon after its last change that another change may carry the same time.
    pub racy: bool,
}

/// Where a member's bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file that was there when the archive was made.
    Live(Stamp),
    /// Read back from an archive whose index was lost; whether the file is still like that is not known.
    Recovered,
    /// What a file held before it was rotated, truncated, rewritten or deleted.
    Superseded,
}

/// One member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name below the log directory, for superseded ones with the time behind it.
    pub name: Vec<u8>,
    pub origin: Origin,
    pub meta: Meta,
    pub place: Place,
    pub blocks: Vec<Block>,
}

/// Where a member stands in the archive: header, blocks and padding follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    /// The header with its padding.
    pub header_packed_len: u32,
    pub header: Sum,
    /// The zeros behind the content.
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

    /// Of the whole entry, uncompressed.
    pub fn sum(&self) -> Sum {
        let padding = usize::try_from(header::padding_len(self.size())).unwrap_or(0);
        let content = self.blocks.iter().fold(self.place.header, |sum, block| sum.then(block.plain()));
        content.then(Sum::of(&[0; 512][..padding]))
    }

    /// Of the file alone.
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
