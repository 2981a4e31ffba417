//! The commit path: writes the records of commands to a log, and lets each request wait until its records
//! are durable.
//!
//! Commands append records to the [`tail`], which collects them in groups and decides by its [`phase`] when
//! they are written. A [`Log`] keeps the groups: on the disk, nowhere (`--data memory`), or in the memory of
//! a test.

pub mod memory;
pub mod phase;
pub mod tail;

use crate::engine::item::BodyPlace;
use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The moment at which an answer may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Answers when the records are on the disk.
    Always,
    /// Answers when the records are written. They are on the disk within this time after that.
    Interval(Duration),
    /// Answers when the records are written.
    None,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::Always => "always",
            Durability::Interval(_) => "interval",
            Durability::None => "none",
        }
    }
}

/// Records that are written together. After a crash either all records of a group are there or none.
#[derive(Debug)]
pub struct Group {
    pub number: u64,
    pub segment: u32,
    /// The place of the group in its segment.
    pub offset: u64,
    pub begins_segment: bool,
    pub began: Instant,
    /// Space for the log's group header, then the records.
    pub bytes: Vec<u8>,
    /// Items whose bodies may be evicted from memory once the log has the group: queue, number and place.
    pub evict: Vec<(u32, u64, BodyPlace)>,
    /// Requests that are answered once the group is as durable as the settings require.
    pub waiters: Vec<oneshot::Sender<()>>,
}

/// The reason why a log cannot keep a group now.
pub type LogFailure = Box<dyn Error + Send + Sync>;

/// The state of the space for further records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    Ready,
    /// The space is being prepared.
    Soon,
    /// There is no space, for this reason.
    Refused(String),
}

/// The place of the next group, and the sizes of segments and headers.
#[derive(Clone, Copy, Debug)]
pub struct LogEnd {
    pub segment: u32,
    pub offset: u64,
    pub next_group: u64,
    pub segment_bytes: u64,
    /// True if the next segment must begin as soon as its space is ready.
    pub full: bool,
    /// Bytes before the first group of a segment.
    pub segment_header_bytes: u64,
    /// Bytes before the records of a group.
    pub group_header_bytes: usize,
}

/// Keeps groups in their order. Only the commit path appends, syncs and checks, one call at a time. These
/// calls may block, and can be repeated after a failure. The other calls return at once.
pub trait Log: Debug + Send + Sync + 'static {
    /// Returns the end of the log as it was opened; `None` for a log that keeps nothing and needs no groups.
    fn end(&self) -> Option<LogEnd>;
    /// Appends these groups. A group that an earlier attempt made durable is not appended again.
    fn append(&self, groups: &mut [Group]) -> Result<(), LogFailure>;
    /// Makes everything that was appended durable.
    fn sync(&self) -> Result<(), LogFailure>;
    /// Fails if the log is not the one that was opened, or if a part of it is missing.
    fn check(&self) -> Result<(), LogFailure>;
    /// Reads the body of an item.
    fn read(&self, place: BodyPlace, len: u32) -> io::Result<Box<[u8]>>;
    /// Returns the state of the space for the next segment. A log without segments keeps this default, and
    /// those of the calls below.
    fn next_segment(&self) -> Room {
        Room::Ready
    }
    /// Called when the next group begins a segment, with the number and size of the segment before it.
    fn end_segment(&self, _segment: u32, _bytes: u64) {}
    /// Returns the bytes of all finished segments.
    fn finished_bytes(&self) -> u64 {
        0
    }
    /// Returns the directory whose removal must be noticed at once; `None` for a log without one.
    fn directory(&self) -> Option<&Path> {
        None
    }
}
