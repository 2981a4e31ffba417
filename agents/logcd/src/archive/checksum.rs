//! A CRC-32 together with the length it covers, so that the sums of neighbouring pieces can be combined.

use crc32fast::Hasher;

/// The checksum of a run of bytes; the default is that of no bytes at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub crc: u32,
    pub len: u64,
}

impl Sum {
    pub fn of(bytes: &[u8]) -> Sum {
        Sum { crc: crc32fast::hash(bytes), len: bytes.len() as u64 }
    }

    /// The sum of these bytes followed by those of `next`, without either at hand. A damaged index may make them more than can be
    /// counted: no archive has that sum.
    #[must_use]
    pub fn then(self, next: Sum) -> Sum {
        let mut hasher = Hasher::new_with_initial(self.crc);
        hasher.combine(&Hasher::new_with_initial_len(next.crc, next.len));
        Sum { crc: hasher.finalize(), len: self.len.saturating_add(next.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn more_bytes_than_can_be_counted_are_the_most() {
        let all = Sum { crc: 1, len: u64::MAX };
        assert_eq!(all.then(Sum::of(b"x")).len, u64::MAX);
    }

    proptest! {
        #[test]
        fn combining_the_pieces_equals_summing_the_whole(pieces: Vec<Vec<u8>>) {
            let combined = pieces.iter().fold(Sum::default(), |sum, piece| sum.then(Sum::of(piece)));
            prop_assert_eq!(combined, Sum::of(&pieces.concat()));
        }
    }
}
