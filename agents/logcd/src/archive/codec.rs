//! The two kinds of archive and their differences: file suffix, block sizes, compression, padding, and the
//! bytes before the first and after the last block.

use crate::archive::block::Cut;
use crate::archive::checksum::Sum;
use crate::archive::{deflate, zstandard};
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use std::io::{self, BufRead, Read};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    #[default]
    Gzip,
    Zstd,
}

/// A failure of the compressor.
#[derive(Debug, thiserror::Error)]
#[error("the compressor failed, which is a fault of this program: {0}")]
pub struct PackError(pub(crate) String);

impl PackError {
    pub(crate) fn thread_gone() -> PackError {
        PackError("its thread is gone".to_owned())
    }

    pub(crate) fn too_long() -> PackError {
        PackError("a block is longer than 4 GiB".to_owned())
    }
}

impl Codec {
    pub const ALL: [Codec; 2] = [Codec::Gzip, Codec::Zstd];

    pub fn other(self) -> Codec {
        match self {
            Codec::Gzip => Codec::Zstd,
            Codec::Zstd => Codec::Gzip,
        }
    }

    /// The suffix of an archive's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Codec::Gzip => ".tar.gz",
            Codec::Zstd => ".tar.zst",
        }
    }

    /// The first bytes of an index; the last of them is the version of the format.
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

    pub fn cut(self) -> Cut {
        match self {
            Codec::Gzip => deflate::CUT,
            Codec::Zstd => zstandard::CUT,
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

    /// The bytes before the first entry.
    pub fn preamble(self) -> Vec<u8> {
        match self {
            Codec::Gzip => deflate::preamble(),
            // The first header's frame has to be the first: readers tell the format from its magic.
            Codec::Zstd => Vec::new(),
        }
    }

    /// Every length from here on can be padded.
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
    pub fn epilogue(self, packer: &mut Packer, entries: Sum) -> Result<(Vec<u8>, Sum), PackError> {
        let end_marker = [0; 1024];
        let whole = entries.then(Sum::of(&end_marker));
        let mut bytes = Vec::new();
        if self == Codec::Gzip {
            packer.pack(&[], &end_marker, &mut bytes)?;
            bytes.extend(deflate::LAST);
        }
        bytes.extend(self.trailer(whole));
        Ok((bytes, whole))
    }

    /// The last bytes of an archive, which identify its content.
    pub fn trailer(self, whole: Sum) -> Vec<u8> {
        match self {
            Codec::Gzip => deflate::trailer(whole),
            Codec::Zstd => zstandard::trailer(whole),
        }
    }

    /// Detects the kind of a stream by its first bytes. Anything else is read as gzip, whose reader reports
    /// the error.
    pub fn of(first: &[u8]) -> Codec {
        if zstandard::is_frame(first) { Codec::Zstd } else { Codec::Gzip }
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

/// Decompresses the blocks of one entry in order: the earlier ones are the dictionary of the next.
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
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than it should be"));
        }
        Ok(())
    }
}

/// Reads any archive as a stream, including one of several members or frames.
pub enum Decoder<R: BufRead> {
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstandard::Decoder<R>),
}

impl<R: BufRead> Decoder<R> {
    pub fn new(mut from: R) -> io::Result<Decoder<R>> {
        Ok(match Codec::of(from.fill_buf()?) {
            Codec::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(from))),
            Codec::Zstd => Decoder::Zstd(zstandard::decoder(from)?),
        })
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Like `Decoder`, but reads no second gzip member, which this program never writes.
pub enum StrictDecoder<R: BufRead> {
    Gzip(Box<GzDecoder<R>>),
    Zstd(zstandard::Decoder<R>),
}

impl<R: BufRead> StrictDecoder<R> {
    pub fn new(mut from: R) -> io::Result<StrictDecoder<R>> {
        Ok(match Codec::of(from.fill_buf()?) {
            Codec::Gzip => StrictDecoder::Gzip(Box::new(GzDecoder::new(from))),
            Codec::Zstd => StrictDecoder::Zstd(zstandard::decoder(from)?),
        })
    }

    /// Returns the reader, positioned after the end of the stream.
    pub fn into_inner(self) -> R {
        match self {
            StrictDecoder::Gzip(decoder) => decoder.into_inner(),
            StrictDecoder::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl<R: BufRead> Read for StrictDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            StrictDecoder::Gzip(decoder) => decoder.read(buffer),
            StrictDecoder::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unpacked(archive: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        Decoder::new(archive).unwrap().read_to_end(&mut plain).unwrap();
        plain
    }

    fn codec() -> impl Strategy<Value = Codec> {
        prop::sample::select(&Codec::ALL[..])
    }

    #[test]
    fn empty_archive_is_detected_by_kind() {
        for codec in Codec::ALL {
            let mut packed = codec.preamble();
            let mut packer = codec.packer(codec.default_level()).unwrap();
            let (epilogue, whole) = codec.epilogue(&mut packer, Sum::default()).unwrap();
            packed.extend(epilogue);
            assert_eq!(Codec::of(&packed), codec);
            assert!(packed.ends_with(&codec.trailer(whole)));
            assert_eq!(unpacked(&packed), [0; 1024]);
        }
    }

    proptest! {
        #[test]
        fn padded_blocks_round_trip(
            codec in codec(),
            lines in prop::collection::vec("[ -~]{0,200}\n", 0..400),
            cuts in prop::collection::vec((1usize..5000, 0usize..100), 1..20),
            level in 1u32..=7,
        ) {
            let plain = lines.concat().into_bytes();
            let (mut packer, mut unpacker) = (codec.packer(level).unwrap(), codec.unpacker().unwrap());
            let (mut packed, mut sum, mut at) = (codec.preamble(), Sum::default(), 0);
            let mut block = Vec::new();
            for (cut, padding) in cuts.iter().cycle() {
                let end = (at + cut).min(plain.len());
                let dictionary = usize::try_from(codec.cut().dictionary_bytes_max).unwrap();
                let start = packed.len();
                packer.pack(&plain[at.saturating_sub(dictionary)..at], &plain[at..end], &mut packed).unwrap();
                codec.pad(codec.padding_min() + padding, &mut packed);
                unpacker.unpack(&packed[start..], end - at, &mut block).unwrap();
                prop_assert_eq!(&block, &plain[at..end]);
                sum = sum.then(Sum::of(&plain[at..end]));
                at = end;
                if at == plain.len() { break }
            }
            packed.extend(codec.epilogue(&mut packer, sum).unwrap().0);
            let mut expected = plain;
            expected.extend([0; 1024]);
            prop_assert_eq!(unpacked(&packed), expected);
        }

        #[test]
        fn incompressible_blocks_round_trip(codec in codec(), noise in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let mut packer = codec.packer(codec.default_level()).unwrap();
            let mut packed = codec.preamble();
            packer.pack(&[], &noise, &mut packed).unwrap();
            packed.extend(codec.epilogue(&mut packer, Sum::of(&noise)).unwrap().0);
            let mut expected = noise;
            expected.extend([0; 1024]);
            prop_assert_eq!(unpacked(&packed), expected);
        }

        /// A block that claims to be small must not allocate more.
        #[test]
        fn damaged_or_oversized_block_is_refused(codec in codec(), bytes: Vec<u8>, len_max in 0usize..500) {
            let (mut plain, mut packed) = (Vec::new(), Vec::new());
            let _ = codec.unpacker().unwrap().unpack(&bytes, len_max, &mut plain);
            codec.packer(1).unwrap().pack(&[], &vec![7; len_max + 2], &mut packed).unwrap();
            let longer = codec.unpacker().unwrap().unpack(&packed, len_max, &mut plain);
            prop_assert!(longer.is_err());
        }
    }
}
