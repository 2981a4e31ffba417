//! Reads every byte of an archive strictly and reports damage.

use crate::archive::checksum::Checksum;
use crate::archive::decoder::{Decoder, StrictDecoder};
use crate::archive::header::TAR_BLOCK;
use crate::archive::index::Index;
use crate::archive::member;
use std::io::{self, BufRead, BufReader, Read, Seek};
use tar::{EntryType, Header};

const BUFFER_BYTES: usize = 128 * 1024;
/// Longer names exceed what any file system allows, and are damage.
const LONG_NAME_BYTES_MAX: u64 = 64 * 1024;

/// The number of files and bytes in a sound archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub files: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the compressed stream is damaged: {0}")]
    Stream(io::Error),
    #[error("{0} bytes follow the end of the gzip stream")]
    Trailing(u64),
    #[error("byte {at} of the tar: {what}")]
    Tar { at: u64, what: String },
    #[error("the index does not match the archive: {0}")]
    Index(String),
}

/// One file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: Vec<u8>,
    pub content: Checksum,
}

/// Checks the whole archive, and that the index, if given, describes exactly this archive.
pub fn verify(archive: impl Read + Seek, index: Option<&Index>) -> Result<Totals, VerifyError> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, archive);
    from.rewind().map_err(VerifyError::Stream)?;
    let mut expected = index.map(|index| index.entries.iter());
    let prefix = index.map_or(&[][..], |index| index.prefix.as_slice());
    verify_stream(from, &mut |member| {
        let Some(entries) = &mut expected else { return Ok(()) };
        let shown = member.name.escape_ascii();
        let Some(entry) = entries.next() else {
            return Err(VerifyError::Index(format!("it does not list {shown}")));
        };
        if member.name != member::path(prefix, &entry.name) || member.content != entry.content() {
            return Err(VerifyError::Index(format!("it describes {shown} differently")));
        }
        Ok(())
    })
}

/// Reads a tar.gz or tar.zst to its very end.
pub fn verify_stream(
    from: impl BufRead,
    each: &mut dyn FnMut(&Member) -> Result<(), VerifyError>,
) -> Result<Totals, VerifyError> {
    let mut tar = Tar { from: StrictDecoder::new(from).map_err(VerifyError::Stream)?, at: 0 };
    let totals = tar.members(each)?;
    // The decoder checks sum and length when it reads the end.
    tar.zeros_to_the_end()?;
    let mut rest = tar.from.into_inner();
    match io::copy(&mut rest, &mut io::sink()).map_err(VerifyError::Stream)? {
        0 => Ok(totals),
        bytes => Err(VerifyError::Trailing(bytes)),
    }
}

/// Reads a tar.gz of several members to its very end: an archive of container logs.
pub fn verify_members(archive: impl Read) -> Result<Totals, VerifyError> {
    let from = BufReader::with_capacity(BUFFER_BYTES, archive);
    let mut tar = Tar { from: Decoder::new(from).map_err(VerifyError::Stream)?, at: 0 };
    let totals = tar.members(&mut |_| Ok(()))?;
    tar.zeros_to_the_end()?;
    Ok(totals)
}

struct Tar<R> {
    from: R,
    at: u64,
}

impl<R: Read> Tar<R> {
    fn fault(&self, what: impl Into<String>) -> VerifyError {
        VerifyError::Tar { at: self.at, what: what.into() }
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), VerifyError> {
        self.from.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.fault("it ends early"),
            _ => VerifyError::Stream(error),
        })?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn members(
        &mut self,
        each: &mut dyn FnMut(&Member) -> Result<(), VerifyError>,
    ) -> Result<Totals, VerifyError> {
        let mut totals = Totals::default();
        let mut long_name = None;
        let mut block = [0; TAR_BLOCK];
        loop {
            self.exact(&mut block)?;
            if block == [0; TAR_BLOCK] {
                self.exact(&mut block)?;
                return match (block == [0; TAR_BLOCK], long_name) {
                    (true, None) => Ok(totals),
                    _ => Err(self.fault("the end marker is incomplete")),
                };
            }
            let header = Header::from_byte_slice(&block);
            let size = self.check(header)?;
            match header.entry_type() {
                EntryType::GNULongName if size <= LONG_NAME_BYTES_MAX => {
                    let mut name = vec![0; usize::try_from(size).unwrap_or(0)];
                    self.exact(&mut name)?;
                    self.padding(size)?;
                    name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
                    long_name = Some(name);
                }
                kind => {
                    let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                    let content = self.content(size)?;
                    if matches!(kind, EntryType::Regular | EntryType::Continuous) {
                        totals.files += 1;
                        totals.bytes += size;
                        each(&Member { name, content })?;
                    }
                }
            }
        }
    }

    fn check(&self, header: &Header) -> Result<u64, VerifyError> {
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(self.fault("a header's checksum is wrong"));
        }
        let size = header.entry_size().map_err(|error| self.fault(error.to_string()))?;
        size.checked_next_multiple_of(TAR_BLOCK as u64).ok_or_else(|| self.fault("an impossible size"))?;
        Ok(size)
    }

    fn content(&mut self, size: u64) -> Result<Checksum, VerifyError> {
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(size).unwrap_or(BUFFER_BYTES))];
        let mut left = size;
        while left > 0 {
            let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.exact(&mut buffer[..len])?;
            hasher.update(&buffer[..len]);
            left -= len as u64;
        }
        self.padding(size)?;
        Ok(Checksum { crc: hasher.finalize(), len: size })
    }

    fn padding(&mut self, size: u64) -> Result<(), VerifyError> {
        let mut padding = [0; TAR_BLOCK];
        let len = usize::try_from(crate::archive::header::padding_len(size)).unwrap_or(0);
        self.exact(&mut padding[..len])?;
        if padding.iter().any(|b| *b != 0) {
            return Err(self.fault("there are bytes between two entries"));
        }
        Ok(())
    }

    /// Checks that only zeros follow: a tar may be padded to any length.
    fn zeros_to_the_end(&mut self) -> Result<(), VerifyError> {
        let mut buffer = [0; 4096];
        loop {
            match self.from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().all(|b| *b == 0) => self.at += read as u64,
                Ok(_) => return Err(self.fault("data follows the end marker")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(VerifyError::Stream(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::codec::Codec;
    use crate::archive::header;
    use crate::archive::header::Meta;
    use proptest::prelude::*;

    fn archive(codec: Codec, files: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (name, content) in files {
            tar.extend(header::entry(name, &Meta::default(), content));
        }
        packed(codec, &tar)
    }

    fn packed(codec: Codec, tar: &[u8]) -> Vec<u8> {
        let (mut packer, mut archive) = (codec.packer(6).unwrap(), codec.preamble());
        packer.pack(&[], tar, &mut archive).unwrap();
        archive.extend(codec.epilogue(&mut packer, Checksum::of(tar)).unwrap().0);
        archive
    }

    fn codec() -> impl Strategy<Value = Codec> {
        prop::sample::select(&Codec::ALL[..])
    }

    fn check(bytes: &[u8]) -> Result<Totals, VerifyError> {
        verify_stream(bytes, &mut |_| Ok(()))
    }

    #[test]
    fn a_sound_archive_is_counted() {
        for codec in Codec::ALL {
            let files: [(&[u8], &[u8]); 3] = [(b"a.log", b"hello"), (&[b'n'; 300], b""), (b"c", &[7; 5000])];
            let totals = check(&archive(codec, &files)).unwrap();
            assert_eq!(totals, Totals { files: 3, bytes: 5005 });
        }
    }

    #[test]
    fn what_follows_the_archive_is_a_fault() {
        for codec in Codec::ALL {
            let mut bytes = archive(codec, &[(b"a.log", b"hello")]);
            bytes.push(0);
            assert!(check(&bytes).is_err(), "{codec:?}");
        }
    }

    proptest! {
        /// The gzip preamble's first bytes hold time and system, which have no meaning; everything else is
        /// covered.
        #[test]
        fn no_bit_can_flip_unnoticed(codec in codec(), content in prop::collection::vec(any::<u8>(), 0..2000), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = archive(codec, &[(b"a.log", &content), (b"b.log", b"line\n")]);
            let sound = bytes.clone();
            let first = if codec == Codec::Gzip { 10 } else { 0 };
            let at = first + at.index(bytes.len() - first);
            bytes[at] ^= 1 << bit;
            let mut members = Vec::new();
            let result = verify_stream(bytes.as_slice(), &mut |member| { members.push(member.clone()); Ok(()) });
            if result.is_ok() {
                // A flip in padding that inflates to nothing either way changes no member.
                let mut expected = Vec::new();
                verify_stream(sound.as_slice(), &mut |member| { expected.push(member.clone()); Ok(()) }).unwrap();
                prop_assert_eq!(members, expected);
            }
        }

        #[test]
        fn a_torn_archive_is_never_sound(codec in codec(), content in prop::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
            let bytes = archive(codec, &[(b"a.log", &content)]);
            prop_assert!(check(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_harm(codec in codec(), tar in prop::collection::vec(any::<u8>(), 0..3000), raw: bool) {
            if raw {
                let _ = check(&tar);
            } else {
                let _ = check(&packed(codec, &tar));
            }
        }
    }
}
