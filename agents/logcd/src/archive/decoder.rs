//! Reads an archive of either kind as a stream, and detects the kind by its first bytes.

use crate::archive::codec::Codec;
use crate::archive::zstandard;
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use std::io::{self, BufRead, Read};

/// Detects the kind of a stream by its first bytes. Anything else is read as gzip, whose reader reports the
/// error.
pub fn kind_of(first: &[u8]) -> Codec {
    if zstandard::is_frame(first) { Codec::Zstd } else { Codec::Gzip }
}

/// Reads any archive as a stream, including one of several members or frames.
pub enum Decoder<R: BufRead> {
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstandard::Decoder<R>),
}

impl<R: BufRead> Decoder<R> {
    pub fn new(mut from: R) -> io::Result<Decoder<R>> {
        Ok(match kind_of(from.fill_buf()?) {
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
        Ok(match kind_of(from.fill_buf()?) {
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
    use crate::archive::checksum::Checksum;
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
            let (epilogue, whole) = codec.epilogue(&mut packer, Checksum::default()).unwrap();
            packed.extend(epilogue);
            assert_eq!(kind_of(&packed), codec);
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
            let (mut packed, mut sum, mut at) = (codec.preamble(), Checksum::default(), 0);
            let mut block = Vec::new();
            for (cut, padding) in cuts.iter().cycle() {
                let end = (at + cut).min(plain.len());
                let dictionary = usize::try_from(codec.block_sizes().dictionary_bytes_max).unwrap();
                let start = packed.len();
                packer.pack(&plain[at.saturating_sub(dictionary)..at], &plain[at..end], &mut packed).unwrap();
                codec.pad(codec.padding_min() + padding, &mut packed);
                unpacker.unpack(&packed[start..], end - at, &mut block).unwrap();
                prop_assert_eq!(&block, &plain[at..end]);
                sum = sum.then(Checksum::of(&plain[at..end]));
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
            packed.extend(codec.epilogue(&mut packer, Checksum::of(&noise)).unwrap().0);
            let mut expected = noise;
            expected.extend([0; 1024]);
            prop_assert_eq!(unpacked(&packed), expected);
        }
    }
}
