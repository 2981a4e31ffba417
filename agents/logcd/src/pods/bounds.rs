//! The bounds on the archives of container logs: bytes and days, for all and for some namespaces.

use crate::logs::pattern::Pattern;
use kit::disk::free_space::MinFree;
use std::path::PathBuf;

/// The bounds of one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub bytes: u64,
    pub days: u32,
}

/// The bounds on the archives.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    pub all: Bound,
    /// The bounds of some namespaces. The first pattern that matches decides.
    pub namespaces: Vec<(Pattern, Bound)>,
    pub min_free: MinFree,
    /// The directory for the archives of days, if it is on the same file system. Such an archive needs room
    /// while it is made.
    pub days: Option<PathBuf>,
}

impl Bounds {
    pub fn of(&self, namespace: &str) -> Bound {
        let own = self.namespaces.iter().find(|(pattern, _)| pattern.matches(namespace.as_bytes()));
        own.map_or(self.all, |(_, bound)| *bound)
    }
}
