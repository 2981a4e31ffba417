//! The two kinds of archive and their differences: file suffix, block sizes, compression, padding, and the
//! bytes before the first and after the last block.

use crate::archive::block::BlockSizes;
use crate::archive::checksum::Checksum;
use crate::archive::pack_error::PackError;
use crate::archive::{deflate, zstandard};
use std::io;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    #[default]
    Gzip,
    Zstd,
}

impl Codec {
    pub const ALL: [Codec; 2] = [Codec::Gzip, Codec::Zstd];

    pub fn other(self) -> Codec {
        match self {
            Codec::Gzip => Codec::Zstd,
            Codec::Zstd => Codec::Gzip,
        }
    }

    /// Returns the suffix of an archive's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Codec::Gzip => ".tar.gz",
            Codec::Zstd => ".tar.zst",
        }
    }

    /// Returns the first bytes of an index. The last of them is the version of the format.
    pub fn index_magic(self) -> [u8; 8] {
        match self {
            Codec::Gzip => *b"logcdix\x01",
            Codec::Zstd => *b"logcdiz\x01",
        }
    }

    pub fn levels(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Codec::Gzip => deflate::LEVELS,
            Codec::Zstd => zstandard::LEVELS,
        }
    }

    pub fn default_level(self) -> u32 {
        match self {
            Codec::Gzip => 6,
            Codec::Zstd => 3,
        }
    }

    pub fn block_sizes(self) -> BlockSizes {
        match self {
            Codec::Gzip => deflate::BLOCK_SIZES,
            Codec::Zstd => zstandard::BLOCK_SIZES,
        }
    }

    pub fn packer(self, level: u32) -> Result<Packer, PackError> {
        Ok(match self {
            Codec::Gzip => Packer::Gzip(deflate::Packer::new(level)),
            Codec::Zstd => Packer::Zstd(zstandard::Packer::new(level)?),
        })
    }

    pub fn unpacker(self) -> io::Result<Unpacker> {
        Ok(match self {
            Codec::Gzip => Unpacker::Gzip(deflate::Unpacker::new()),
            Codec::Zstd => Unpacker::Zstd(zstandard::Unpacker::new()?),
        })
    }

    /// Returns the bytes before the first entry.
    pub fn preamble(self) -> Vec<u8> {
        match self {
            Codec::Gzip => deflate::preamble(),
            // The first header's frame must be at the start: readers detect the format by its magic.
            Codec::Zstd => Vec::new(),
        }
    }

    /// Returns the smallest padding. Any greater length is possible, too.
    pub fn padding_min(self) -> usize {
        match self {
            Codec::Gzip => deflate::PADDING_MIN,
            Codec::Zstd => zstandard::PADDING_MIN,
        }
    }

    /// Appends exactly `len` bytes that decompress to nothing.
    pub fn pad(self, len: usize, packed: &mut Vec<u8>) {
        match self {
            Codec::Gzip => deflate::pad(len, packed),
            Codec::Zstd => zstandard::pad(len, packed),
        }
    }

    /// Returns the bytes after the last entry, tar's end marker and the trailer, given the sum of all
    /// entries. The returned sum covers everything.
    pub fn epilogue(self, packer: &mut Packer, entries: Checksum) -> Result<(Vec<u8>, Checksum), PackError> {
        let end_marker = [0; 1024];
        let whole = entries.then(Checksum::of(&end_marker));
        let mut bytes = Vec::new();
        if self == Codec::Gzip {
            packer.pack(&[], &end_marker, &mut bytes)?;
            bytes.extend(deflate::LAST);
        }
        bytes.extend(self.trailer(whole));
        Ok((bytes, whole))
    }

    /// Returns the last bytes of an archive, which identify its content.
    pub fn trailer(self, whole: Checksum) -> Vec<u8> {
        match self {
            Codec::Gzip => deflate::trailer(whole),
            Codec::Zstd => zstandard::trailer(whole),
        }
    }
}

/// Compresses one block after another; each thread has its own.
pub enum Packer {
    Gzip(deflate::Packer),
    Zstd(zstandard::Packer),
}

impl Packer {
    /// Appends `plain`, compressed, to `packed`. `dictionary` is the part of the same file before it: exactly
    /// what a reader has decompressed last.
    pub fn pack(&mut self, dictionary: &[u8], plain: &[u8], packed: &mut Vec<u8>) -> Result<(), PackError> {
        match self {
            Packer::Gzip(packer) => packer.pack(dictionary, plain, packed),
            Packer::Zstd(packer) => packer.pack(plain, packed),
        }
    }
}

/// Decompresses the blocks of one entry in order, because earlier blocks are the dictionary of the next one.
pub enum Unpacker {
    Gzip(deflate::Unpacker),
    Zstd(zstandard::Unpacker),
}

impl Unpacker {
    /// Decompresses `packed` into `plain`; more than `len_max` bytes are damage.
    pub fn unpack(&mut self, packed: &[u8], len_max: usize, plain: &mut Vec<u8>) -> io::Result<()> {
        plain.clear();
        plain.reserve(len_max + 1);
        match self {
            Unpacker::Gzip(unpacker) => unpacker.unpack(packed, len_max, plain)?,
            Unpacker::Zstd(unpacker) => unpacker.unpack(packed, plain)?,
        }
        if plain.len() > len_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it decompresses to more bytes than expected",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A block that claims to be small must not allocate more.
        #[test]
        fn damaged_or_oversized_block_is_refused(codec in prop::sample::select(&Codec::ALL[..]), bytes: Vec<u8>, len_max in 0usize..500) {
            let (mut plain, mut packed) = (Vec::new(), Vec::new());
            let _ = codec.unpacker().unwrap().unpack(&bytes, len_max, &mut plain);
            codec.packer(1).unwrap().pack(&[], &vec![7; len_max + 2], &mut packed).unwrap();
            let longer = codec.unpacker().unwrap().unpack(&packed, len_max, &mut plain);
            prop_assert!(longer.is_err());
        }
    }
}
