//! The settings of directories, after they were checked.

use crate::archive::codec::{Codec, Packer};
use crate::archive::pack_error::PackError;
use crate::cycle::retention::RetentionLimits;
use crate::day::Calendar;
use crate::logs::directories::LogDir;
use crate::logs::pattern::Pattern;
use kit::disk::free_space::MinFree;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    /// The log directories; the first one without symlinks.
    pub dirs: Vec<LogDir>,
    /// The directory for archives.
    pub out: PathBuf,
    /// The path in the archive of the first log directory.
    pub prefix: Vec<u8>,
    pub select: Select,
    pub limits: ArchiveLimits,
    pub packing: Packing,
    pub publishing: Publishing,
    pub calendar: Calendar,
    /// Logs that have not changed for this time are deleted once they are safely archived.
    pub remove_after: Option<Duration>,
}

/// Selects the files to archive.
#[derive(Clone, Debug)]
pub struct Select {
    pub include: Vec<Pattern>,
    pub exclude: Vec<Pattern>,
    pub recursive: bool,
    /// Archives files with several names even if some names are outside of the directories.
    pub hard_links: bool,
}

impl Select {
    pub fn takes(&self, path: &[u8]) -> bool {
        self.include.iter().any(|p| p.matches(path)) && !self.exclude.iter().any(|p| p.matches(path))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ArchiveLimits {
    pub files: usize,
    /// Limit on the holes of all sparse files together: bytes without disk blocks.
    pub hole_bytes: u64,
    /// Limit on the superseded content in one archive, compressed; zero with `--latest-only`.
    pub superseded_bytes: u64,
    pub keep: RetentionLimits,
    pub min_free: MinFree,
    /// The part of the archived logs that a look compares, if it does not compare all.
    pub compare_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Packing {
    pub codec: Codec,
    /// A level of the codec.
    pub level: u32,
    pub threads: usize,
}

impl Packing {
    pub fn packer(&self) -> Result<Packer, PackError> {
        self.codec.packer(self.level)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Publishing {
    pub interval: Duration,
    /// Maximum age of unpublished news; it may be exceeded until the next look where the interval is longer.
    pub within: Duration,
    /// Threshold for publishing at once, in per cent of the archived bytes.
    pub percent: u64,
    /// The longest time between two looks, even if the kernel reports no change.
    pub poll: Duration,
    pub mode: u32,
}
