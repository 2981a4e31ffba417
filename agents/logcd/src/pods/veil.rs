//! The gzip members of an hour's archive, and its end mark, which is hidden by changing one byte.
//!
//! A gzip header may have an extra field, which every reader skips. While the end mark is shown, this field
//! is empty, and the member holds the two blocks of zeros that end a tar. When the mark is hidden, the field
//! covers these zeros, and the member is empty. So an archive can grow, and only one of its bytes is written
//! again.

use crate::archive::checksum::Checksum;
use crate::archive::codec::Packer;
use crate::archive::deflate;
use crate::archive::pack_error::PackError;
use jiff::Timestamp;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A gzip header with an extra field and without time, name and system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
/// A gzip header without an extra field.
const PLAIN_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The deflated end of a tar: 1,024 zeros.
const ZEROS: [u8; 11] = [0x63, 0x60, 0x18, 0x05, 0xa3, 0x60, 0x14, 0x8c, 0x54, 0x00, 0x00];
const ZEROS_TRAILER: [u8; 8] = [0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00];
/// The content of an empty member: a last block, no checksum, no length.
const EMPTY: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub const END_BYTES: u64 = 51;
/// The position in the end mark of the byte that hides it: the length of its extra field.
const VEIL_AT: u64 = 10;
/// The length of the extra field that covers everything up to the empty member's content.
const HIDDEN: u8 = 29;

/// The identifier of our part of the extra field.
const INDEX_ID: [u8; 2] = *b"LC";
/// The bytes of that part: the member's length, the first time and the last time.
const INDEX_BYTES: u8 = 20;
/// The bytes of a member's header, including the extra field.
const MEMBER_HEADER_BYTES: usize = 12 + 4 + INDEX_BYTES as usize;

/// The earliest and the latest time of a member's lines.
pub type Span = Option<(Timestamp, Timestamp)>;

/// Returns the end mark of an archive, not hidden.
pub fn end() -> Vec<u8> {
    [&HEADER[..], &[0, 0], &ZEROS, &ZEROS_TRAILER, &PLAIN_HEADER, &EMPTY].concat()
}

/// Returns the position and the value of the byte that hides or shows the end mark at `end`.
pub fn veil(end: u64, is_hidden: bool) -> (u64, [u8; 1]) {
    (end + VEIL_AT, [if is_hidden { HIDDEN } else { 0 }])
}

/// True if these bytes are an end mark, shown or hidden.
pub fn is_end(bytes: &[u8]) -> bool {
    let mut shown = bytes.to_vec();
    match shown.get_mut(10) {
        Some(veil) if [0, HIDDEN].contains(veil) => *veil = 0,
        _ => return false,
    }
    shown == end()
}

/// Returns the first bytes of an archive: a member without content.
pub fn start() -> Vec<u8> {
    // Longer than the bytes by which busybox decides if an archive is compressed.
    let mut bytes = deflate::preamble();
    bytes.extend(deflate::LAST);
    bytes.extend(deflate::trailer(Checksum::default()));
    bytes
}

/// True if the file begins like an archive of container logs.
pub fn is_start_of(file: &File) -> bool {
    let start = start();
    let mut read = vec![0; start.len()];
    file.read_exact_at(&mut read, 0).is_ok() && read == start
}

/// Returns a member that holds `tar`. Its header has the length and times by which a reader can skip it.
pub fn member(packer: &mut Packer, tar: &[u8], span: Span) -> Result<Vec<u8>, PackError> {
    let mut bytes = vec![0; MEMBER_HEADER_BYTES];
    packer.pack(&[], tar, &mut bytes)?;
    bytes.extend(deflate::LAST);
    bytes.extend(deflate::trailer(Checksum::of(tar)));
    let len = u32::try_from(bytes.len()).map_err(|_| PackError::too_long())?;
    let time = |time: Option<Timestamp>| time.map_or(i64::MIN, nanoseconds).to_le_bytes();
    let header = [
        &HEADER[..],
        &[INDEX_BYTES + 4, 0],
        &INDEX_ID,
        &[INDEX_BYTES, 0],
        &len.to_le_bytes(),
        &time(span.map(|(first, _)| first)),
        &time(span.map(|(_, last)| last)),
    ]
    .concat();
    bytes[..MEMBER_HEADER_BYTES].copy_from_slice(&header);
    Ok(bytes)
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// A member as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedMember {
    pub place: Range<u64>,
    pub span: Span,
}

/// A part of an archive as its first bytes describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchivePart {
    Member(TimedMember),
    HiddenEnd,
    End,
}

/// The number of bytes that [`part`] needs.
pub const PART_BYTES: usize = 51;
const _: () = assert!(PART_BYTES as u64 == END_BYTES);

/// Returns the part that begins with these bytes, at this position; `None` if logcd did not make it.
pub fn part(at: u64, bytes: &[u8]) -> Option<ArchivePart> {
    if let Some(end) = bytes.get(..PART_BYTES).filter(|bytes| is_end(bytes)) {
        return Some(if end[10] == 0 { ArchivePart::End } else { ArchivePart::HiddenEnd });
    }
    let header = bytes.get(..MEMBER_HEADER_BYTES)?;
    let (fixed, rest) = header.split_at(16);
    if fixed != [&HEADER[..], &[INDEX_BYTES + 4, 0], &INDEX_ID, &[INDEX_BYTES, 0]].concat() {
        return None;
    }
    let len = u32::from_le_bytes(rest[..4].try_into().ok()?);
    let time = |at: usize| {
        let ns = i64::from_le_bytes(rest[at..at + 8].try_into().ok()?);
        Timestamp::from_nanosecond(ns.into()).ok().filter(|_| ns != i64::MIN)
    };
    let place = at..at.checked_add(u64::from(len))?;
    (u64::from(len) > MEMBER_HEADER_BYTES as u64)
        .then(|| ArchivePart::Member(TimedMember { place, span: time(4).zip(time(12)) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::codec::Codec;
    use flate2::read::MultiGzDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    fn plain(archive: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        MultiGzDecoder::new(archive).read_to_end(&mut plain).unwrap();
        plain
    }

    fn hidden() -> Vec<u8> {
        let mut hidden = end();
        let (at, byte) = veil(0, true);
        hidden[usize::try_from(at).unwrap()] = byte[0];
        hidden
    }

    #[test]
    fn one_byte_hides_the_end() {
        assert_eq!(end().len() as u64, END_BYTES);
        assert_eq!(plain(&end()), [0; 1024]);
        assert_eq!(plain(&hidden()), b"");
        assert!(is_end(&end()) && is_end(&hidden()));
        assert_eq!(
            (part(0, &end()), part(0, &hidden())),
            (Some(ArchivePart::End), Some(ArchivePart::HiddenEnd))
        );
    }

    #[test]
    fn start_is_empty_and_seen_as_compressed_by_busybox() {
        assert_eq!(plain(&start()), b"");
        assert!(start()[257..262] != *b"ustar" && start()[257..262] != [0; 5]);
    }

    proptest! {
        #[test]
        fn members_follow_each_other(contents: Vec<Vec<u8>>, ns in 0i64..i64::MAX, timed: bool) {
            let mut packer = Codec::Gzip.packer(6).unwrap();
            let span = timed.then(|| Timestamp::from_nanosecond(ns.into()).unwrap()).map(|time| (time, time));
            let (mut archive, mut parts) = (start(), Vec::new());
            for content in &contents {
                let at = archive.len() as u64;
                let member = member(&mut packer, content, span).unwrap();
                parts.push(ArchivePart::Member(TimedMember { place: at..at + member.len() as u64, span }));
                archive.extend(member);
                archive.extend(hidden());
                parts.push(ArchivePart::HiddenEnd);
            }
            prop_assert_eq!(plain(&archive), contents.concat());
            let mut at = start().len();
            for expected in parts {
                let found = part(at as u64, &archive[at..]).unwrap();
                at += match &found {
                    ArchivePart::Member(member) => usize::try_from(member.place.end).unwrap() - at,
                    _ => PART_BYTES,
                };
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(at, archive.len());
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..60), at: u64) {
            let _ = part(at, &bytes);
            let _ = part(at, &[&HEADER[..], &[INDEX_BYTES + 4, 0], &INDEX_ID, &[INDEX_BYTES, 0], &bytes].concat());
        }
    }
}
