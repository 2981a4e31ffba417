//! Measures the free space on a file system, and how much of it an agent must leave to others.

use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

/// The space of one file system, counted as `df` and the kubelet count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free bytes for unprivileged processes, without the blocks reserved for root.
    pub available_bytes: u64,
    pub capacity_bytes: u64,
}

/// The space to leave free: a size, or a percentage of the file system's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinFree {
    Bytes(u64),
    /// A percentage from 0 to 99.
    Percent(u8),
}

impl Space {
    /// Measures the file system of an opened file or directory.
    pub fn of(file: impl AsFd) -> io::Result<Space> {
        Ok(Space::from(fstatvfs(file)?))
    }

    /// Measures the file system of a path.
    pub fn at(path: &Path) -> io::Result<Space> {
        Ok(Space::from(statvfs(path)?))
    }
}

impl From<Statvfs> for Space {
    fn from(vfs: Statvfs) -> Space {
        Space {
            available_bytes: vfs.blocks_available().saturating_mul(vfs.fragment_size()),
            capacity_bytes: vfs.blocks().saturating_mul(vfs.fragment_size()),
        }
    }
}

impl MinFree {
    /// The floor in bytes on a file system of this capacity.
    pub fn bytes_of(self, capacity_bytes: u64) -> u64 {
        match self {
            MinFree::Bytes(bytes) => bytes,
            // Divide first, so that no capacity overflows; the rounding costs less than 100 bytes.
            MinFree::Percent(percent) => capacity_bytes / 100 * u64::from(percent),
        }
    }

    /// True if writing this many bytes would leave less than the floor.
    pub fn forbids(self, space: Space, bytes: u64) -> bool {
        space.available_bytes < bytes.saturating_add(self.bytes_of(space.capacity_bytes))
    }
}

impl FromStr for MinFree {
    type Err = String;

    fn from_str(text: &str) -> Result<MinFree, String> {
        let parsed = match text.strip_suffix('%') {
            Some(number) => number.trim().parse().ok().filter(|p| *p < 100).map(MinFree::Percent),
            None => crate::settings::parse_size(text).ok().map(MinFree::Bytes),
        };
        parsed.ok_or_else(|| {
            "expected a size such as 256MiB, or a whole percentage of the file system from 0% to 99%"
                .to_owned()
        })
    }
}

impl fmt::Display for MinFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MinFree::Bytes(bytes) => write!(f, "{bytes} bytes"),
            MinFree::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn floor_is_a_size_or_a_percentage() {
        for (text, expected) in [
            ("256MiB", MinFree::Bytes(256 << 20)),
            ("4096", MinFree::Bytes(4096)),
            ("0", MinFree::Bytes(0)),
            ("12%", MinFree::Percent(12)),
            ("0%", MinFree::Percent(0)),
            ("99 %", MinFree::Percent(99)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["100%", "-1%", "1.5%", "%", "12%%", "lots", ""] {
            let refused = text.parse::<MinFree>().unwrap_err();
            assert!(refused.contains("0% to 99%"), "{text}: {refused}");
        }
    }

    #[test]
    fn percentage_is_of_the_capacity() {
        let space = Space { available_bytes: 150, capacity_bytes: 1000 };
        let floor = MinFree::Percent(12);
        assert_eq!(floor.bytes_of(1000), 120);
        assert!(!floor.forbids(space, 30));
        assert!(floor.forbids(space, 31));
        assert!(MinFree::Percent(99).bytes_of(u64::MAX) < u64::MAX);
    }

    #[test]
    fn floor_of_zero_leaves_the_last_byte_usable() {
        let space = Space { available_bytes: 10, capacity_bytes: 1000 };
        assert!(!MinFree::Bytes(0).forbids(space, 10));
        assert!(MinFree::Bytes(0).forbids(space, 11));
        assert!(MinFree::Bytes(1).forbids(space, u64::MAX));
    }

    #[test]
    fn path_and_open_file_are_measured_alike() {
        let directory = tempfile::tempdir().unwrap();
        let opened = Space::of(File::open(directory.path()).unwrap()).unwrap();
        let named = Space::at(directory.path()).unwrap();
        assert_eq!(opened.capacity_bytes, named.capacity_bytes);
        assert!(opened.capacity_bytes > 0 && opened.available_bytes <= opened.capacity_bytes);
        assert!(Space::at(&directory.path().join("missing")).is_err());
    }
}
