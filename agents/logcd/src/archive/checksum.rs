//! A CRC-32 together with the length it covers, so that the sums of neighbouring pieces can be combined.

use crc32fast::Hasher;

/// The checksum of a run of bytes. The default is the checksum of no bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    pub crc: u32,
    pub len: u64,
}

impl Checksum {
    pub fn of(bytes: &[u8]) -> Checksum {
        Checksum { crc: crc32fast::hash(bytes), len: bytes.len() as u64 }
    }

    /// Returns the sum of these bytes followed by those of `next`, without reading either. The length
    /// saturates: only a damaged index can make it overflow, and no archive has that sum.
    #[must_use]
    pub fn then(self, next: Checksum) -> Checksum {
        let mut hasher = Hasher::new_with_initial(self.crc);
        hasher.combine(&Hasher::new_with_initial_len(next.crc, next.len));
        Checksum { crc: hasher.finalize(), len: self.len.saturating_add(next.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn length_saturates() {
        let all = Checksum { crc: 1, len: u64::MAX };
        assert_eq!(all.then(Checksum::of(b"x")).len, u64::MAX);
    }

    proptest! {
        #[test]
        fn combined_sums_equal_the_sum_of_the_whole(pieces: Vec<Vec<u8>>) {
            let combined = pieces.iter().fold(Checksum::default(), |sum, piece| sum.then(Checksum::of(piece)));
            prop_assert_eq!(combined, Checksum::of(&pieces.concat()));
        }
    }
}
