//! The gzip stream's pieces: independent blocks that end on a byte boundary, padding that says nothing, and
//! what stands before and behind them.

use crate::checksum::Sum;
use flate2::{Compress, Compression, FlushCompress, Status};

/// A gzip header that names no time, no file and no system, so that the same content gives the same bytes.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Busybox `tar -t` takes an archive for uncompressed when these raw bytes are "ustar" or NULs. Empty blocks
/// stand there, which are neither, so that no log's content can decide it.
const SNIFFED_BY_BUSYBOX: usize = 262;
/// Stored blocks of no bytes: five bytes that a reader passes over, and six with an empty one before it.
const EMPTY_5: [u8; 5] = [0, 0, 0, 0xff, 0xff];
const EMPTY_6: [u8; 6] = [2, 0, 0, 0, 0xff, 0xff];
/// An empty block that says that it is the last.
const LAST: [u8; 2] = [3, 0];
/// Every length from here on can be made of empty blocks.
pub const PADDING_MIN: usize = 20;

/// Deflates block after block; one for each thread.
pub struct Packer {
    compress: Compress,
}

#[derive(Debug, thiserror::Error)]
#[error("the compressor failed, which is a fault of this program: {0}")]
pub struct PackError(String);

impl PackError {
    pub(crate) fn thread_gone() -> PackError {
        PackError("its thread is gone".to_owned())
    }

    pub(crate) fn too_long() -> PackError {
        PackError("a block is longer than 4 GiB".to_owned())
    }
}

impl Packer {
    pub fn new(level: u32) -> Packer {
        Packer { compress: Compress::new(Compression::new(level), false) }
    }

    /// Appends `plain`, deflated, to `packed`. `dictionary` is what stands before it in the same file and
    /// must be just what a reader has seen last.
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
            // Room left over means that nothing is held back any more, the flush marker included.
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

/// Whether `len` bytes of padding can be made.
pub fn can_pad(len: usize) -> bool {
    len.is_multiple_of(5) || len % 5 * 6 <= len
}

/// Exactly `len` bytes that inflate to nothing; `len` must be one that can be made.
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

/// What stands before the first entry.
pub fn preamble() -> Vec<u8> {
    let mut bytes = GZIP_HEADER.to_vec();
    while bytes.len() < SNIFFED_BY_BUSYBOX {
        bytes.extend(EMPTY_5);
    }
    bytes
}

/// What stands behind the last entry, given the sum of all entries: tar's end marker, the end of the
/// deflate stream, gzip's checksum and length.
pub fn epilogue(packer: &mut Packer, entries: Sum) -> Result<(Vec<u8>, Sum), PackError> {
    let end_marker = [0; 1024];
    let mut bytes = Vec::new();
    packer.pack(&[], &end_marker, &mut bytes)?;
    bytes.extend(LAST);
    let whole = entries.then(Sum::of(&end_marker));
    bytes.extend(whole.crc.to_le_bytes());
    // The format keeps the length modulo 2^32; every reader lives with it.
    bytes.extend(&whole.len.to_le_bytes()[..4]);
    Ok((bytes, whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    fn inflate(gzip: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn padding_comes_in_every_length_that_is_needed() {
        for len in (0..4096).filter(|len| can_pad(*len)) {
            let mut packed = preamble();
            let before = packed.len();
            pad(len, &mut packed);
            assert_eq!(packed.len() - before, len);
            packed.extend(epilogue(&mut Packer::new(6), Sum::default()).unwrap().0);
            assert_eq!(inflate(&packed), [0; 1024]);
        }
        assert!((PADDING_MIN..4096).all(can_pad));
    }

    #[test]
    fn busybox_cannot_take_it_for_an_uncompressed_archive() {
        let sniffed = preamble()[257..262].to_vec();
        assert!(sniffed != b"ustar" && sniffed != [0; 5]);
    }

    proptest! {
        #[test]
        fn blocks_with_carried_dictionaries_inflate_to_what_went_in(
            lines in prop::collection::vec("[ -~]{0,200}\n", 0..400),
            cuts in prop::collection::vec(1usize..5000, 1..20),
            level in 1u32..=7,
        ) {
            let plain = lines.concat().into_bytes();
            let mut packer = Packer::new(level);
            let (mut packed, mut sum, mut at) = (preamble(), Sum::default(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(plain.len());
                let dictionary = &plain[at.saturating_sub(32 * 1024)..at];
                packer.pack(dictionary, &plain[at..end], &mut packed).unwrap();
                sum = sum.then(Sum::of(&plain[at..end]));
                at = end;
                if at == plain.len() { break }
            }
            packed.extend(epilogue(&mut packer, sum).unwrap().0);
            let mut expected = plain;
            expected.extend([0; 1024]);
            prop_assert_eq!(inflate(&packed), expected);
        }

        #[test]
        fn what_cannot_be_compressed_is_packed_whole_too(noise in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let mut packer = Packer::new(6);
            let mut packed = preamble();
            packer.pack(&[], &noise, &mut packed).unwrap();
            packed.extend(epilogue(&mut packer, Sum::of(&noise)).unwrap().0);
            let mut expected = noise;
            expected.extend([0; 1024]);
            prop_assert_eq!(inflate(&packed), expected);
        }
    }
}
