//! What logcd has been told to do, checked and ready for use.

use crate::archive::codec::{Codec, PackError, Packer};
use crate::cycle::retention;
use crate::day::Calendar;
use crate::logs::directories::LogDir;
use crate::logs::pattern::Pattern;
use kit::free_space::MinFree;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    /// The log directories; the first one without symlinks.
    pub dirs: Vec<LogDir>,
    /// Where the archives go.
    pub out: PathBuf,
    /// What stands before a file's name in the archive.
    pub prefix: Vec<u8>,
    pub select: Select,
    pub limits: Limits,
    pub packing: Packing,
    pub publishing: Publishing,
    pub calendar: Calendar,
    /// Sources that have not changed for this long are removed once they are safely archived.
    pub remove_after: Option<Duration>,
}

/// Which files are taken.
#[derive(Clone, Debug)]
pub struct Select {
    pub include: Vec<Pattern>,
    pub exclude: Vec<Pattern>,
    pub recursive: bool,
    /// Files with more than one name are taken even where the other names cannot be seen.
    pub hard_links: bool,
}

impl Select {
    pub fn takes(&self, path: &[u8]) -> bool {
        self.include.iter().any(|p| p.matches(path)) && !self.exclude.iter().any(|p| p.matches(path))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub files: usize,
    /// Of all sparse files together: what a file claims to hold but has no disk blocks for.
    pub hole_bytes: u64,
    /// Of superseded content in one archive, compressed; none with `--latest-only`.
    pub superseded_bytes: u64,
    pub keep: retention::Limits,
    pub min_free: MinFree,
    /// What a look compares of the logs that it does not compare in full.
    pub compare_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Packing {
    pub codec: Codec,
    /// One of the codec's.
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
    /// News is published before it is this old, or at the next look where the interval is longer.
    pub within: Duration,
    /// Published at once when there is this much more in the logs, in per cent of what is archived.
    pub percent: u64,
    /// How long to trust that no event means no change.
    pub poll: Duration,
    pub mode: u32,
}
