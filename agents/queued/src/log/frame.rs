//! The frame of a group in a segment: a header with a checksum, then the records.
//!
//! ```text
//! nonce u32 | checksum u32 | length u32 | group u64 | unsynced u32 | records …
//! ```
//! All numbers are little-endian. The nonce is the segment's: it distinguishes this segment's groups from the
//! earlier contents of a recycled file. `unsynced` is the number of groups, including this one, that were not
//! known to be on the disk when this one was written. It distinguishes a torn end from damage.

/// Bytes before the records.
pub const HEADER_BYTES: usize = 24;

/// A group that was found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub group: u64,
    pub unsynced: u32,
    pub checksum: u32,
    pub records: &'a [u8],
}

impl Frame<'_> {
    /// The last group that was certainly on the disk when this one was written.
    pub fn synced(&self) -> u64 {
        self.group.saturating_sub(u64::from(self.unsynced))
    }

    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }
}

/// Fills in the header at the front of `bytes`, before the records; returns the checksum.
pub fn seal(bytes: &mut [u8], nonce: u32, group: u64, unsynced: u32) -> u32 {
    let Some((header, records)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return 0 };
    let len = u32::try_from(records.len()).unwrap_or(u32::MAX);
    let rest = [&len.to_le_bytes()[..], &group.to_le_bytes(), &unsynced.to_le_bytes()].concat();
    let checksum = checksum(nonce, &rest, records);
    let fields = [&nonce.to_le_bytes()[..], &checksum.to_le_bytes(), &rest].concat();
    header.copy_from_slice(&fields);
    checksum
}

/// Returns the group that begins at `at`, if it is whole and sound.
pub fn open(bytes: &[u8], at: usize, nonce: u32) -> Option<Frame<'_>> {
    let header = bytes.get(at..at.checked_add(HEADER_BYTES)?)?;
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != nonce {
        return None;
    }
    let len = usize::try_from(word(8)?).ok()?;
    let begin = at + HEADER_BYTES;
    let records = bytes.get(begin..begin.checked_add(len)?)?;
    let checksum = checksum(nonce, header.get(8..)?, records);
    if word(4)? != checksum {
        return None;
    }
    let group = u64::from_le_bytes(header.get(12..20)?.try_into().ok()?);
    Some(Frame { group, unsynced: word(20)?, checksum, records })
}

/// Finds the first whole group that begins at or after `from`, at any offset.
pub fn find(bytes: &[u8], from: usize, nonce: u32) -> Option<(usize, Frame<'_>)> {
    let rest = bytes.get(from..)?;
    let needle = nonce.to_le_bytes();
    memchr::memmem::find_iter(rest, &needle).find_map(|at| Some((from + at, open(bytes, from + at, nonce)?)))
}

fn checksum(nonce: u32, rest_of_header: &[u8], records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(nonce);
    hasher.update(rest_of_header);
    hasher.update(records);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(records: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(records);
        seal(&mut bytes, 0xfeed, 9, 2);
        bytes
    }

    #[test]
    fn a_group_is_read_as_it_was_written_and_only_in_its_own_segment() {
        let bytes = framed(b"records");
        let frame = open(&bytes, 0, 0xfeed).unwrap();
        assert_eq!((frame.group, frame.synced(), frame.records), (9, 7, &b"records"[..]));
        assert_eq!(open(&bytes, 0, 0xbeef), None);
        let shifted = [b"dirt".as_slice(), &bytes].concat();
        assert_eq!(find(&shifted, 0, 0xfeed), Some((4, frame)));
        assert_eq!(find(&shifted, 5, 0xfeed), None);
    }

    proptest! {
        #[test]
        fn no_flipped_bit_goes_unnoticed(records in prop::collection::vec(any::<u8>(), 0..50), bit in any::<prop::sample::Index>()) {
            let mut bytes = framed(&records);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(open(&bytes, 0, 0xfeed), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..120) {
            let _ = (open(&bytes, at, 0), find(&bytes, at, 0));
        }
    }
}
