//! The gzip members of an hour's archive, and its end mark, which is hidden by changing one byte.
//!
//! A gzip header may have an extra field, which every reader skips. While the end mark is shown, this field
//! is empty, and the member holds the two blocks of zeros that end a tar. When the mark is hidden, the field
//! covers these zeros, and the member is empty. An archive can thus grow although only one of its bytes is
//! overwritten.
//!
//! A zstd archive uses a frame that readers skip in the same way. While the end mark is shown, this frame is
//! empty. When the mark is hidden, the frame covers the zeros.

use crate::archive::checksum::Checksum;
use crate::archive::codec::{Codec, Packer};
use crate::archive::pack_error::PackError;
use crate::archive::{deflate, zstandard};
use jiff::Timestamp;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A gzip header with an extra field, but without time, name and system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
/// A gzip header without an extra field.
const PLAIN_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The deflated end of a tar: 1,024 zeros.
const ZEROS: [u8; 11] = [0x63, 0x60, 0x18, 0x05, 0xa3, 0x60, 0x14, 0x8c, 0x54, 0x00, 0x00];
const ZEROS_TRAILER: [u8; 8] = [0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00];
/// The content of an empty member: a last block, no checksum, no length.
const EMPTY: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The position in the end mark of the byte that hides the mark: the length of its extra field.
const VEIL_AT: usize = 10;
/// The length of the extra field when it covers everything up to the empty member's content.
const HIDDEN: u8 = 29;

/// The zeros of a zstd archive's end mark, in two frames.
const ZSTD_ZEROS_BYTES: u8 = 30;
const _: () = assert!(ZSTD_ZEROS_BYTES as usize == 2 * zstandard::ZEROS.len());
/// An empty frame, by which readers recognise a zstd archive.
const EMPTY_FRAME: [u8; 13] = [0x28, 0xb5, 0x2f, 0xfd, 0x24, 0, 1, 0, 0, 0x99, 0xe9, 0xd8, 0x51];

/// The end marks in their shown state.
const GZIP_END: [u8; 51] = concat(&[&HEADER, &[0, 0], &ZEROS, &ZEROS_TRAILER, &PLAIN_HEADER, &EMPTY]);
const ZSTD_END: [u8; 38] = concat(&[&zstandard::SKIPPABLE, &[0; 4], &zstandard::ZEROS, &zstandard::ZEROS]);

/// The identifier of our part of the extra field.
const INDEX_ID: [u8; 2] = *b"LC";
/// The bytes of that part: the member's length, its earliest time and its latest time.
const INDEX_BYTES: u8 = 20;

/// The bytes of a member's header before the index.
const GZIP_MEMBER: [u8; 16] = concat(&[&HEADER, &[INDEX_BYTES + 4, 0], &INDEX_ID, &[INDEX_BYTES, 0]]);
const ZSTD_MEMBER: [u8; 10] = concat(&[&zstandard::SKIPPABLE, &[INDEX_BYTES + 2, 0, 0, 0], &INDEX_ID]);

const fn concat<const LEN: usize>(parts: &[&[u8]]) -> [u8; LEN] {
    let (mut bytes, mut len, mut part) = ([0; LEN], 0, 0);
    while part < parts.len() {
        let mut at = 0;
        while at < parts[part].len() {
            bytes[len] = parts[part][at];
            len += 1;
            at += 1;
        }
        part += 1;
    }
    assert!(len == LEN, "the parts have this length");
    bytes
}

/// The earliest and the latest time of a member's lines.
pub type Span = Option<(Timestamp, Timestamp)>;

/// Returns the end mark of an archive in its shown state.
pub fn end(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::Gzip => &GZIP_END,
        Codec::Zstd => &ZSTD_END,
    }
}

pub fn end_bytes(codec: Codec) -> u64 {
    end(codec).len() as u64
}

/// Returns the position in the end mark of the byte that hides the mark, and the value with which it does so.
fn veil_of(codec: Codec) -> (usize, u8) {
    match codec {
        Codec::Gzip => (VEIL_AT, HIDDEN),
        Codec::Zstd => (zstandard::SKIPPABLE.len(), ZSTD_ZEROS_BYTES),
    }
}

/// Returns the position and the value of the byte that hides or shows the end mark at `end`.
pub fn veil(codec: Codec, end: u64, is_hidden: bool) -> (u64, [u8; 1]) {
    let (at, hidden) = veil_of(codec);
    (end + at as u64, [if is_hidden { hidden } else { 0 }])
}

/// True if these bytes are an end mark, shown or hidden.
pub fn is_end(codec: Codec, bytes: &[u8]) -> bool {
    let (at, hidden) = veil_of(codec);
    let end = end(codec);
    bytes.len() == end.len()
        && [0, hidden].contains(&bytes[at])
        && bytes[..at] == end[..at]
        && bytes[at + 1..] == end[at + 1..]
}

/// Returns the first bytes of an archive: a member without content.
pub fn start(codec: Codec) -> Vec<u8> {
    match codec {
        Codec::Gzip => {
            // The member is longer than the bytes by which busybox decides if an archive is compressed.
            let mut bytes = deflate::preamble();
            bytes.extend(deflate::LAST);
            bytes.extend(deflate::trailer(Checksum::default()));
            bytes
        }
        Codec::Zstd => EMPTY_FRAME.to_vec(),
    }
}

/// True if the file begins like an archive of container logs.
pub fn is_start_of(file: &File) -> bool {
    Codec::ALL.into_iter().any(|codec| {
        let start = start(codec);
        let mut read = vec![0; start.len()];
        file.read_exact_at(&mut read, 0).is_ok() && read == start
    })
}

fn header_start(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::Gzip => &GZIP_MEMBER,
        Codec::Zstd => &ZSTD_MEMBER,
    }
}

fn header_bytes(codec: Codec) -> usize {
    header_start(codec).len() + usize::from(INDEX_BYTES)
}

/// Returns a member that holds `tar`. Its header has its length and times, so that a reader can skip it.
pub fn member(codec: Codec, packer: &mut Packer, tar: &[u8], span: Span) -> Result<Vec<u8>, PackError> {
    let mut bytes = vec![0; header_bytes(codec)];
    packer.pack(&[], tar, &mut bytes)?;
    if codec == Codec::Gzip {
        bytes.extend(deflate::LAST);
        bytes.extend(deflate::trailer(Checksum::of(tar)));
    }
    let len = u32::try_from(bytes.len()).map_err(|_| PackError::too_long())?;
    let time = |time: Option<Timestamp>| time.map_or(i64::MIN, nanoseconds).to_le_bytes();
    let header = [
        header_start(codec),
        &len.to_le_bytes(),
        &time(span.map(|(first, _)| first)),
        &time(span.map(|(_, last)| last)),
    ]
    .concat();
    bytes[..header.len()].copy_from_slice(&header);
    Ok(bytes)
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// A member, as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedMember {
    pub place: Range<u64>,
    pub span: Span,
}

/// A part of an archive, as its first bytes describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchivePart {
    Member(TimedMember),
    HiddenEnd,
    End,
}

/// The number of bytes that [`part`] needs.
pub const PART_BYTES: usize = GZIP_END.len();

/// Returns the part at this position that starts with these bytes; `None` if logcd did not make it.
pub fn part(codec: Codec, at: u64, bytes: &[u8]) -> Option<ArchivePart> {
    if let Some(end) = bytes.get(..end(codec).len()).filter(|bytes| is_end(codec, bytes)) {
        let is_shown = end[veil_of(codec).0] == 0;
        return Some(if is_shown { ArchivePart::End } else { ArchivePart::HiddenEnd });
    }
    let rest = bytes.get(..header_bytes(codec))?.strip_prefix(header_start(codec))?;
    let len = u32::from_le_bytes(rest[..4].try_into().ok()?);
    let time = |at: usize| {
        let ns = i64::from_le_bytes(rest[at..at + 8].try_into().ok()?);
        Timestamp::from_nanosecond(ns.into()).ok().filter(|_| ns != i64::MIN)
    };
    let place = at..at.checked_add(u64::from(len))?;
    (u64::from(len) > header_bytes(codec) as u64)
        .then(|| ArchivePart::Member(TimedMember { place, span: time(4).zip(time(12)) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::decoder::Decoder;
    use proptest::prelude::*;
    use std::io::Read;

    fn plain(archive: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        Decoder::new(archive).unwrap().read_to_end(&mut plain).unwrap();
        plain
    }

    fn hidden(codec: Codec) -> Vec<u8> {
        let mut hidden = end(codec).to_vec();
        let (at, byte) = veil(codec, 0, true);
        hidden[usize::try_from(at).unwrap()] = byte[0];
        hidden
    }

    #[test]
    fn one_byte_hides_the_end() {
        for codec in Codec::ALL {
            let (shown, hidden) = (end(codec), hidden(codec));
            assert!(shown.len() <= PART_BYTES && header_bytes(codec) <= PART_BYTES);
            assert_eq!(plain(&[&start(codec)[..], shown].concat()), [0; 1024]);
            assert_eq!(plain(&[start(codec), hidden.clone()].concat()), b"");
            assert!(is_end(codec, shown) && is_end(codec, &hidden));
            assert_eq!(part(codec, 0, shown), Some(ArchivePart::End));
            assert_eq!(part(codec, 0, &hidden), Some(ArchivePart::HiddenEnd));
            assert!(!is_end(codec.other(), shown));
        }
    }

    #[test]
    fn start_is_empty_and_seen_as_compressed_by_busybox() {
        let gzip = start(Codec::Gzip);
        assert!(gzip[257..262] != *b"ustar" && gzip[257..262] != [0; 5]);
        for codec in Codec::ALL {
            assert_eq!(plain(&start(codec)), b"");
        }
    }

    proptest! {
        #[test]
        fn members_follow_each_other(
            contents: Vec<Vec<u8>>, ns in 0i64..i64::MAX, timed: bool, codec in prop::sample::select(&Codec::ALL[..]),
        ) {
            let mut packer = codec.packer(6).unwrap();
            let span = timed.then(|| Timestamp::from_nanosecond(ns.into()).unwrap()).map(|time| (time, time));
            let (mut archive, mut parts) = (start(codec), Vec::new());
            for content in &contents {
                let at = archive.len() as u64;
                let member = member(codec, &mut packer, content, span).unwrap();
                parts.push(ArchivePart::Member(TimedMember { place: at..at + member.len() as u64, span }));
                archive.extend(member);
                archive.extend(hidden(codec));
                parts.push(ArchivePart::HiddenEnd);
            }
            prop_assert_eq!(plain(&archive), contents.concat());
            let mut at = start(codec).len();
            for expected in parts {
                let found = part(codec, at as u64, &archive[at..]).unwrap();
                at += match &found {
                    ArchivePart::Member(member) => usize::try_from(member.place.end).unwrap() - at,
                    _ => end(codec).len(),
                };
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(at, archive.len());
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..60), at: u64) {
            for codec in Codec::ALL {
                let _ = part(codec, at, &bytes);
                let _ = part(codec, at, &[header_start(codec), &bytes[..]].concat());
            }
        }
    }
}
