//! One entry of an archive: the source of its bytes, and its blocks.

use crate::archive::block::{Block, packed_len, plain_len};
use crate::archive::checksum::Checksum;
use crate::archive::file_stamp::FileStamp;
use crate::archive::header::{self, Meta};

/// The source of a member's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file that existed when the archive was made.
    Live(FileStamp),
    /// An archive without an index, or a file that must be compared as a whole, because its content may have
    /// changed.
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
    pub layout: EntryLayout,
    pub blocks: Vec<Block>,
}

/// The position of a member in the archive: header, blocks and padding follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryLayout {
    pub offset: u64,
    /// The header with its padding.
    pub header_packed_len: u32,
    pub header: Checksum,
    /// The zeros after the content.
    pub padding_packed_len: u32,
}

impl Entry {
    pub fn size(&self) -> u64 {
        plain_len(&self.blocks)
    }

    pub fn blocks_offset(&self) -> u64 {
        self.layout.offset + u64::from(self.layout.header_packed_len)
    }

    /// Returns the length of the whole entry in the archive.
    pub fn packed_len(&self) -> u64 {
        u64::from(self.layout.header_packed_len)
            + packed_len(&self.blocks)
            + u64::from(self.layout.padding_packed_len)
    }

    /// Returns the checksum of the whole uncompressed entry.
    pub fn sum(&self) -> Checksum {
        let padding = usize::try_from(header::padding_len(self.size())).unwrap_or(0);
        let content = self.blocks.iter().fold(self.layout.header, |sum, block| sum.then(block.plain()));
        content.then(Checksum::of(&[0; 512][..padding]))
    }

    /// Returns the checksum of the file's content alone.
    pub fn content(&self) -> Checksum {
        self.blocks.iter().fold(Checksum::default(), |sum, block| sum.then(block.plain()))
    }

    pub fn stamp(&self) -> Option<&FileStamp> {
        match &self.origin {
            Origin::Live(stamp) => Some(stamp),
            Origin::Recovered | Origin::Superseded => None,
        }
    }
}
