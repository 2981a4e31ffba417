//! The pieces of a gzip stream: independent blocks that end on a byte boundary, empty padding, and the bytes
//! before and after them.

use crate::archive::block::BlockSizes;
use crate::archive::checksum::Checksum;
use crate::archive::pack_error::PackError;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io;
use std::ops::RangeInclusive;

/// Compression levels. Above 7 the archive does not get smaller.
pub const LEVELS: RangeInclusive<u32> = 1..=7;

/// Block sizes of a gzip archive. Larger blocks compress no better (0.05 % at this size) and cost memory in
/// every worker; deflate looks no further back than the dictionary.
pub const BLOCK_SIZES: BlockSizes =
    BlockSizes { block_bytes_max: 256 * 1024, dictionary_bytes_max: 32 * 1024, final_bytes_min: 32 * 1024 };

/// A gzip header that names no time, no file and no system, so that the same content gives the same bytes.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Busybox `tar -t` reads an archive as uncompressed if these raw bytes are "ustar" or NULs. Empty blocks
/// occupy them, so that no log's content can cause that.
const SNIFFED_BY_BUSYBOX: usize = 262;
/// Empty stored blocks that a reader skips: one of five bytes, and one of six together with another empty
/// block.
const EMPTY_5: [u8; 5] = [0, 0, 0, 0xff, 0xff];
const EMPTY_6: [u8; 6] = [2, 0, 0, 0, 0xff, 0xff];
/// An empty block that is marked as the last.
pub const LAST: [u8; 2] = [3, 0];
/// The smallest padding: empty blocks can add up to this length and any greater one.
pub const PADDING_MIN: usize = 20;

/// Deflates one block after another; each thread has its own.
pub struct Packer {
    compress: Compress,
}

impl Packer {
    pub fn new(level: u32) -> Packer {
        Packer { compress: Compress::new(Compression::new(level), false) }
    }

    /// Appends `plain`, deflated, to `packed`. `dictionary` is the part of the same file before it: exactly
    /// what a reader has inflated last.
    pub fn pack(&mut self, dictionary: &[u8], plain: &[u8], packed: &mut Vec<u8>) -> Result<(), PackError> {
        self.compress.reset();
        if !dictionary.is_empty() {
            self.compress.set_dictionary(dictionary).map_err(|e| PackError(e.to_string()))?;
        }
        packed.reserve(plain.len() / 3 + 128);
        loop {
            let consumed = usize::try_from(self.compress.total_in()).unwrap_or(usize::MAX);
            let rest = plain.get(consumed..).unwrap_or_default();
            let status = self.compress.compress_vec(rest, packed, FlushCompress::Sync);
            let status = status.map_err(|e| PackError(e.to_string()))?;
            let everything_in = self.compress.total_in() == plain.len() as u64;
            // If the buffer has space left, everything is flushed, including the marker.
            if everything_in && packed.len() < packed.capacity() {
                return Ok(());
            }
            if packed.len() < packed.capacity() && status == Status::BufError {
                return Err(PackError("no progress".to_owned()));
            }
            packed.reserve(plain.len() / 2 + 1024);
        }
    }
}

/// True if `len` bytes of padding can be made.
pub fn can_pad(len: usize) -> bool {
    len.is_multiple_of(5) || len % 5 * 6 <= len
}

/// Appends exactly `len` bytes that inflate to nothing; `len` must be possible.
pub fn pad(len: usize, packed: &mut Vec<u8>) {
    debug_assert!(can_pad(len), "{len} bytes cannot be made of empty blocks");
    let long = len % 5;
    for _ in 0..long {
        packed.extend(EMPTY_6);
    }
    for _ in 0..(len.saturating_sub(long * 6)) / 5 {
        packed.extend(EMPTY_5);
    }
}

/// Returns the bytes before the first entry.
pub fn preamble() -> Vec<u8> {
    let mut bytes = GZIP_HEADER.to_vec();
    while bytes.len() < SNIFFED_BY_BUSYBOX {
        bytes.extend(EMPTY_5);
    }
    bytes
}

/// Returns the bytes after the last block: the content's checksum and its length.
pub fn trailer(whole: Checksum) -> Vec<u8> {
    // The format keeps the length modulo 2^32; every reader accepts that.
    [&whole.crc.to_le_bytes()[..], &whole.len.to_le_bytes()[..4]].concat()
}

/// Inflates the blocks of one entry.
pub struct Unpacker {
    decompress: Decompress,
}

impl Unpacker {
    pub fn new() -> Unpacker {
        Unpacker { decompress: Decompress::new(false) }
    }

    /// Appends to `plain`, which has room for more than `len_max` bytes.
    pub fn unpack(&mut self, packed: &[u8], len_max: usize, plain: &mut Vec<u8>) -> io::Result<()> {
        let start = self.decompress.total_in();
        let mut consumed = 0;
        while consumed < packed.len() {
            self.decompress.decompress_vec(&packed[consumed..], plain, FlushDecompress::Sync)?;
            let before = consumed;
            consumed = usize::try_from(self.decompress.total_in() - start).unwrap_or(usize::MAX);
            if plain.len() > len_max || consumed == before {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its end is not where expected"));
            }
        }
        Ok(())
    }
}

impl Default for Unpacker {
    fn default() -> Unpacker {
        Unpacker::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn inflate(gzip: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn padding_has_every_needed_length() {
        for len in (0..4096).filter(|len| can_pad(*len)) {
            let mut packed = preamble();
            let before = packed.len();
            pad(len, &mut packed);
            assert_eq!(packed.len() - before, len);
            let content = [0; 1024];
            Packer::new(6).pack(&[], &content, &mut packed).unwrap();
            packed.extend(LAST);
            packed.extend(trailer(Checksum::of(&content)));
            assert_eq!(inflate(&packed), content);
        }
        assert!((PADDING_MIN..4096).all(can_pad));
    }

    #[test]
    fn busybox_detects_the_compression() {
        let sniffed = preamble()[257..262].to_vec();
        assert!(sniffed != b"ustar" && sniffed != [0; 5]);
    }
}
