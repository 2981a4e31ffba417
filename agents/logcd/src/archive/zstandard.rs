//! The pieces of a zstd stream: a frame for each block, and empty skippable frames as padding between them.

use crate::archive::block::BlockSizes;
use crate::archive::checksum::Checksum;
use crate::archive::pack_error::PackError;
use std::io::{self, BufRead, Cursor};
use std::ops::RangeInclusive;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

/// Compression levels. Above 12 a log hardly gets smaller and takes several times as long.
pub const LEVELS: RangeInclusive<u32> = 1..=12;

/// Block sizes of a zstd archive. Readers use no dictionary across frames: each is independent. Small frames
/// therefore cost more than small blocks of a gzip stream and are merged for longer. Frames larger than these
/// compress no better.
pub const BLOCK_SIZES: BlockSizes =
    BlockSizes { block_bytes_max: 512 * 1024, dictionary_bytes_max: 0, final_bytes_min: 256 * 1024 };

const FRAME: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// The first of sixteen magic numbers that begin a frame to be skipped.
pub const SKIPPABLE: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();
/// The smallest padding: a skippable frame's magic and length.
pub const PADDING_MIN: usize = 8;

/// Compresses each block into a frame with the content's length and checksum.
pub struct Packer {
    compressor: Compressor<'static>,
}

impl Packer {
    pub fn new(level: u32) -> Result<Packer, PackError> {
        let level = i32::try_from(level).unwrap_or(i32::MAX);
        let mut compressor = Compressor::new(level).map_err(failed)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true)).map_err(failed)?;
        Ok(Packer { compressor })
    }

    /// Appends a frame that holds `plain`.
    pub fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>) -> Result<(), PackError> {
        packed.reserve(zstd_safe::compress_bound(plain.len()));
        let at = packed.len() as u64;
        let mut end = Cursor::new(packed);
        end.set_position(at);
        self.compressor.compress_to_buffer(plain, &mut end).map(drop).map_err(failed)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> PackError {
    PackError(error.to_string())
}

pub struct Unpacker {
    decompressor: Decompressor<'static>,
}

impl Unpacker {
    pub fn new() -> io::Result<Unpacker> {
        Ok(Unpacker { decompressor: Decompressor::new()? })
    }

    /// Decompresses a block into `plain`, up to its capacity.
    pub fn unpack(&mut self, packed: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        self.decompressor.decompress_to_buffer(packed, plain).map(drop)
    }
}

pub type Decoder<R> = zstd::stream::read::Decoder<'static, R>;

/// Reads all frames in order.
pub fn decoder<R: BufRead>(from: R) -> io::Result<Decoder<R>> {
    Decoder::with_buffer(from)
}

pub fn is_frame(first: &[u8]) -> bool {
    let skippable = |first: &[u8]| first[0] & 0xf0 == SKIPPABLE[0] && first[1..4] == SKIPPABLE[1..];
    first.starts_with(&FRAME) || first.len() >= 4 && skippable(first)
}

/// Appends exactly `len` bytes that every reader skips; fewer than `PADDING_MIN` are impossible.
pub fn pad(len: usize, packed: &mut Vec<u8>) {
    debug_assert!(len >= PADDING_MIN, "{len} bytes are too few for a skippable frame");
    skippable(&vec![0; len.saturating_sub(PADDING_MIN)], packed);
}

/// Half of tar's end marker, 512 zeros, as a frame: its header, one block of a repeated byte, its checksum.
pub const ZEROS: [u8; 15] =
    [0x28, 0xb5, 0x2f, 0xfd, 0x64, 0x00, 0x01, 0x03, 0x10, 0x00, 0x00, 0x7c, 0xb8, 0xc3, 0xe8];

/// Returns tar's end marker with the archive's checksum and length in the middle, as at the end of a gzip
/// stream. They are in a frame that readers skip, and distinguish one archive from another.
///
/// At the end, a truncation could remove them and leave a whole archive. At the start of an empty archive,
/// readers would not recognise its format.
pub fn trailer(whole: Checksum) -> Vec<u8> {
    let mut bytes = ZEROS.to_vec();
    skippable(&[&whole.crc.to_le_bytes()[..], &whole.len.to_le_bytes()].concat(), &mut bytes);
    bytes.extend(ZEROS);
    bytes
}

fn skippable(content: &[u8], packed: &mut Vec<u8>) {
    packed.extend(SKIPPABLE);
    packed.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
    packed.extend(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trailer_is_what_ends_a_tar() {
        assert_eq!(zstd::decode_all(trailer(Checksum::of(b"x")).as_slice()).unwrap(), [0; 1024]);
    }

    #[test]
    fn frames_have_length_and_checksum() {
        let mut packed = Vec::new();
        Packer::new(3).unwrap().pack(&[b'x'; 5000], &mut packed).unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&packed).unwrap(), Some(5000));
        assert_ne!(packed[4] & 0b100, 0, "the checksum flag of the frame header");
        let (mut unpacker, mut plain) = (Unpacker::new().unwrap(), Vec::with_capacity(5000));
        unpacker.unpack(&packed, &mut plain).unwrap();
        assert_eq!(plain, [b'x'; 5000]);
        *packed.last_mut().unwrap() ^= 1;
        assert!(unpacker.unpack(&packed, &mut plain).is_err());
    }
}
