//! The way from a command to its durable answer, over any log.
//!
//! Commands append records to the [`tail`], which collects them in groups and decides by its [`phase`] when
//! they are written. A [`Log`] keeps the groups: in memory, on a disk, or elsewhere.

pub mod memory;
pub mod phase;
pub mod tail;

use crate::engine::item::Place;
use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;

/// The moment at which an answer may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Answers when the records are on the disk.
    Always,
    /// Answers when the records are written; they are on the disk within this time.
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

/// The unit of writing: after a crash a group is there whole or not at all.
#[derive(Debug)]
pub struct Group {
    pub number: u64,
    pub segment: u32,
    /// The place of the group in its segment.
    pub offset: u64,
    pub begins_segment: bool,
    /// Room for the log's own header, then the records.
    pub bytes: Vec<u8>,
    /// Items whose bodies may be evicted from memory when the group is kept.
    pub evict: Vec<(u32, u64, Place)>,
    /// Requests that are answered then.
    pub waiters: Vec<oneshot::Sender<()>>,
}

/// The reason why a log does not keep a group.
pub type LogFailure = Box<dyn Error + Send + Sync>;

/// Where the next segment will be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextSegment {
    Ready,
    /// It is being prepared.
    Soon,
    /// There is no room for it, for this reason.
    Refused(String),
}

/// The place of the next group, and the sizes by which segments are divided.
#[derive(Clone, Copy, Debug)]
pub struct LogEnd {
    pub segment: u32,
    pub offset: u64,
    pub next_group: u64,
    pub segment_bytes: u64,
    /// True if another segment must begin as soon as it can.
    pub full: bool,
    /// Bytes before the first group of a segment.
    pub segment_header_bytes: u64,
    /// Bytes before the records of a group.
    pub group_header_bytes: usize,
}

/// Keeps groups in their order. Only the commit path appends and syncs, one call at a time; both may block,
/// and both can be repeated after a failure. The other calls answer at once.
pub trait Log: Debug + Send + Sync + 'static {
    /// The end of the log; `None` for a log that keeps nothing, and needs no groups.
    fn end(&self) -> Option<LogEnd>;
    /// Appends these groups. A group that an earlier try made durable is not appended again.
    fn append(&self, groups: &mut [Group]) -> Result<(), LogFailure>;
    /// Makes everything that was appended durable.
    fn sync(&self) -> Result<(), LogFailure>;
    /// Fails while the log is not the one that was opened, or lacks a part.
    fn check(&self) -> Result<(), LogFailure>;
    /// Reads a body back.
    fn read(&self, place: Place, len: u32) -> io::Result<Box<[u8]>>;
    fn next_segment(&self) -> NextSegment;
    /// Learns that the next group begins a segment, and how long the segment before it became.
    fn end_segment(&self, segment: u32, bytes: u64);
    /// Bytes of all finished segments.
    fn finished_bytes(&self) -> u64;
    /// The directory whose removal must be noticed at once, if there is one.
    fn directory(&self) -> Option<&Path>;
}
