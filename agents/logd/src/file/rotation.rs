//! Decides when the file is rotated, under which name, and which of the old files are removed. Does no I/O.

use jiff::Timestamp;
use kit::disk::free_space::{MinFree, Space};
use std::time::Duration;

/// The limits on the open file and on the rotated files that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    /// Rotate before the file grows beyond this; 0: never.
    pub rotate_bytes: u64,
    /// Rotate before a line is added to a file older than this; zero: never.
    pub rotate_age: Duration,
    /// Number of rotated files to keep; 0: any number.
    pub keep_files: usize,
    /// Bytes of rotated files to keep; 0: any number.
    pub keep_bytes: u64,
    /// Space to leave free on the file system.
    pub min_free: MinFree,
}

impl RotationPolicy {
    /// True if the file must be rotated before `incoming_bytes` are added. Always false for an empty file.
    pub fn is_due(&self, file_bytes: u64, age: Duration, incoming_bytes: usize) -> bool {
        let grown = file_bytes.saturating_add(incoming_bytes as u64);
        let too_big = self.rotate_bytes > 0 && grown > self.rotate_bytes;
        let too_old = !self.rotate_age.is_zero() && age >= self.rotate_age;
        file_bytes > 0 && (too_big || too_old)
    }

    /// Returns the rotated files to remove, oldest first.
    pub fn surplus<'a>(&self, kept: &'a [Rotated]) -> &'a [Rotated] {
        let mut bytes: u64 = kept.iter().map(|file| file.bytes).sum();
        let mut remove = 0;
        for (older, file) in kept.iter().enumerate() {
            let too_many = self.keep_files > 0 && kept.len() - older > self.keep_files;
            let too_big = self.keep_bytes > 0 && bytes > self.keep_bytes;
            if !too_many && !too_big {
                break;
            }
            bytes -= file.bytes;
            remove = older + 1;
        }
        &kept[..remove]
    }

    /// Returns the rotated files to remove for free space, oldest first. A little more than `min_free` is
    /// freed, so that the next lines fit. The freed space is calculated: a removed file that is still open
    /// gives its space back later.
    pub fn surplus_for_room<'a>(&self, kept: &'a [Rotated], space: Space) -> &'a [Rotated] {
        let next_lines = self.rotate_bytes.min(space.capacity_bytes / 100);
        let mut then = space;
        let mut remove = 0;
        while remove < kept.len()
            && self.min_free != MinFree::Bytes(0)
            && self.min_free.forbids(then, next_lines)
        {
            then.available_bytes = then.available_bytes.saturating_add(kept[remove].bytes);
            remove += 1;
        }
        &kept[..remove]
    }
}

/// A rotated file: `node_log.000042-20261121T084424Z`, later with `.gz`. The number gives the order, even if
/// the clock was set; the time is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    pub number: u64,
    pub name: String,
    pub compressed: bool,
    pub bytes: u64,
}

/// No daemon lives long enough to rotate more often. A file with a larger number is somebody else's, and
/// numbering does not continue after it.
const NUMBER_MAX: u64 = 1_000_000_000_000_000;

/// Returns the name that the file `base` gets when it is rotated.
pub fn rotated_name(base: &str, number: u64, now: Timestamp) -> String {
    format!("{base}.{number:06}-{}", now.strftime("%Y%m%dT%H%M%SZ"))
}

impl Rotated {
    /// Recognizes a rotated file of `base`, and no other file that may live in the directory.
    pub fn parse(base: &str, name: &str, bytes: u64) -> Option<Rotated> {
        let rest = name.strip_prefix(base)?.strip_prefix('.')?;
        let (stem, compressed) = match rest.strip_suffix(".gz") {
            Some(stem) => (stem, true),
            None => (rest, false),
        };
        let (number, time) = stem.split_once('-')?;
        let time = time.as_bytes();
        let shaped = time.len() == 16 && time[8] == b'T' && time[15] == b'Z';
        if !shaped || number.len() < 6 || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = number.parse().ok().filter(|number| *number <= NUMBER_MAX)?;
        Some(Rotated { number, name: name.to_owned(), compressed, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEVER: RotationPolicy = RotationPolicy {
        rotate_bytes: 0,
        rotate_age: Duration::ZERO,
        keep_files: 0,
        keep_bytes: 0,
        min_free: MinFree::Bytes(0),
    };

    fn kept(sizes: &[u64]) -> Vec<Rotated> {
        let file = |(n, bytes): (usize, &u64)| Rotated {
            number: n as u64,
            name: n.to_string(),
            compressed: false,
            bytes: *bytes,
        };
        sizes.iter().enumerate().map(file).collect()
    }

    #[test]
    fn file_stays_within_its_bound() {
        let policy = RotationPolicy { rotate_bytes: 100, ..NEVER };
        assert!(!policy.is_due(60, Duration::ZERO, 40));
        assert!(policy.is_due(60, Duration::ZERO, 41));
        assert!(!policy.is_due(0, Duration::ZERO, 500), "rotating an empty file gains nothing");
        assert!(!NEVER.is_due(u64::MAX, Duration::MAX, 1));
    }

    #[test]
    fn age_counts_from_the_first_line() {
        let policy = RotationPolicy { rotate_age: Duration::from_secs(60), ..NEVER };
        assert!(!policy.is_due(1, Duration::from_secs(59), 1));
        assert!(policy.is_due(1, Duration::from_secs(60), 1));
    }

    #[test]
    fn rotated_names_are_recognized() {
        let name = rotated_name("node_log", 42, Timestamp::UNIX_EPOCH);
        assert_eq!(name, "node_log.000042-19700101T000000Z");
        let parsed = Rotated::parse("node_log", &format!("{name}.gz"), 7).unwrap();
        assert_eq!((parsed.number, parsed.compressed, parsed.bytes), (42, true, 7));
        for other in [
            "node_log",
            "node_log.1",
            "node_log.gz",
            "node_log.000042",
            "other.000042-19700101T000000Z",
            "node_log.000042-19700101T000000Z.tmp",
            ".node_log.000042-19700101T000000Z.gz.new",
            "node_log.00004x-19700101T000000Z",
            "node_log.18446744073709551615-19700101T000000Z",
            "node_log.18446744073709551614-19700101T000000Z",
        ] {
            assert_eq!(Rotated::parse("node_log", other, 1), None, "{other}");
        }
    }

    #[test]
    fn oldest_files_make_room_for_the_floor_and_the_next_lines() {
        let files = kept(&[50, 50, 50, 50]);
        let space = |available_bytes| Space { available_bytes, capacity_bytes: 1000 };
        let policy = RotationPolicy { rotate_bytes: 500, min_free: MinFree::Percent(20), ..NEVER };
        let removed = |available| policy.surplus_for_room(&files, space(available)).len();
        assert_eq!([210, 209, 160, 159, 0].map(removed), [0, 1, 1, 2, 4]);
        assert!(NEVER.surplus_for_room(&files, space(0)).is_empty(), "no floor was set");
    }

    proptest! {
        #[test]
        fn no_more_files_removed_than_needed(
            sizes in proptest::collection::vec(0u64..100, 0..20), keep_files in 0usize..10, keep_bytes in 0u64..300,
        ) {
            let policy = RotationPolicy { keep_files, keep_bytes, ..NEVER };
            let files = kept(&sizes);
            let remove = policy.surplus(&files).len();
            let within = |from: usize| {
                let rest = &sizes[from..];
                (keep_files == 0 || rest.len() <= keep_files) && (keep_bytes == 0 || rest.iter().sum::<u64>() <= keep_bytes)
            };
            prop_assert!(within(remove), "what is left is within the bounds");
            prop_assert!(remove == 0 || !within(remove - 1), "one file fewer would not have been enough");
        }
    }
}
