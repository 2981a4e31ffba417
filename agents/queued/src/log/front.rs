//! The end of the log that is being written: groups in memory that the disk does not have yet.

use super::frame;
use super::segment::HEADER_BYTES;
use crate::engine::core::Journal;
use crate::engine::item::Place;
use crate::engine::record::Record;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

const BLANK_BYTES_MAX: usize = 256 << 10;

/// A group, and where to write it.
#[derive(Debug)]
pub struct Chunk {
    pub segment: u32,
    pub offset: u64,
    pub group: u64,
    /// True if the segment begins with this group.
    pub begins_segment: bool,
    /// Room for the frame's header, then the records.
    pub bytes: Vec<u8>,
    pub opened: Instant,
    /// Notified when the group is on the disk.
    pub waiters: Vec<oneshot::Sender<()>>,
    /// Items whose bodies may be evicted from memory then.
    pub evict: Vec<(u32, u64, Place)>,
}

/// The file for the segment after this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spare {
    Ready,
    /// The next segment begins in this file, but the writer has not reached it yet.
    Taken,
    Wanted,
    /// The last try to make the file failed, for this reason.
    Failed(String),
}

/// The answer to a push that asks for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// The next file is being made; ask again when it is ready.
    Soon,
    None(String),
}

#[derive(Debug)]
pub struct Front {
    pub segment: u32,
    /// The offset of the next group.
    pub offset: u64,
    pub segment_bytes: u64,
    /// The present segment ends at this offset or later: at least as many bytes follow its checkpoint as the
    /// checkpoint takes. Otherwise checkpoints could be most of what is written.
    pub ends_after: u64,
    pub next_group: u64,
    pub pending: Vec<Chunk>,
    /// The buffer of the next group, empty.
    pub blank: Vec<u8>,
    /// True if somebody waits for what is pending.
    pub urgent: bool,
    /// While fewer than this wait, the writer is not woken: it gives the rest a moment to come.
    pub enough: usize,
    /// The number of waiters when the last group ended: clients that are answered usually come back.
    pub expected: usize,
    /// True while chunks taken by the writer are not on the disk yet.
    pub in_flight: bool,
    pub in_flight_waiters: Vec<oneshot::Sender<()>>,
    pub spare: Spare,
    /// The reason why writing fails at present.
    pub failing: Option<String>,
    pub files: HashMap<u32, Arc<File>>,
    /// Bytes of the finished segments.
    pub finished: BTreeMap<u32, u64>,
}

impl Front {
    /// Bytes that are reserved for acks and leases when there is no more room for pushes.
    fn reserve_bytes(&self) -> u64 {
        self.segment_bytes / 4
    }

    pub fn log_bytes(&self) -> u64 {
        self.finished.values().sum::<u64>() + self.segment_bytes.max(self.offset)
    }

    /// The number of waiters for what is pending.
    pub fn waiting(&self) -> usize {
        self.pending.iter().map(|chunk| chunk.waiters.len()).sum()
    }

    /// Takes all groups that are to be written now.
    pub fn take_pending(&mut self) -> Vec<Chunk> {
        self.urgent = false;
        self.in_flight = true;
        std::mem::take(&mut self.pending)
    }

    /// Reuses a buffer that was written: growing one for each group would cost more than filling it.
    pub fn reuse(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= BLANK_BYTES_MAX {
            bytes.clear();
            self.blank = bytes;
        }
    }

    /// True if the writer has something to do.
    pub fn is_due(&self) -> bool {
        !self.pending.is_empty() && self.waiting() >= self.enough
    }

    /// True if a file may be put under the spare's name. A taken spare keeps the name until the writer
    /// reaches it.
    pub fn wants_spare(&self) -> bool {
        matches!(self.spare, Spare::Wanted | Spare::Failed(_))
    }

    /// Records that the next segment's file is ready, and logs the end of a full disk.
    pub fn spare_is_ready(&mut self) {
        if matches!(self.spare, Spare::Failed(_)) {
            tracing::info!(
                event = "segment_allocated",
                "there is room for another log segment again: pushes are accepted"
            );
        }
        self.spare = Spare::Ready;
    }

    /// Decides if there is room for a push of about this many bytes, apart from the reserve.
    pub fn room_for(&self, bytes: u64) -> Room {
        if let Some(why) = &self.failing {
            return Room::None(format!("the log cannot be written: {why}"));
        }
        let left = self.segment_bytes.saturating_sub(self.offset);
        match &self.spare {
            Spare::Ready => Room::Enough,
            _ if left >= bytes.saturating_add(self.reserve_bytes()) => Room::Enough,
            Spare::Taken | Spare::Wanted => Room::Soon,
            Spare::Failed(why) => Room::None(format!("no room for another log segment: {why}")),
        }
    }

    /// True if a command of about this many bytes should begin a new segment.
    pub fn is_full_for(&self, bytes: u64) -> bool {
        self.offset > HEADER_BYTES as u64
            && self.offset.saturating_add(bytes) > self.segment_bytes.max(self.ends_after)
            // Without a next file, using up the rest of this segment is better than waiting.
            && self.spare == Spare::Ready
    }

    /// Directs all further records into the next segment. A checkpoint must follow.
    pub fn begin_segment(&mut self) {
        self.finished.insert(self.segment, self.offset.max(self.segment_bytes));
        self.segment += 1;
        self.offset = HEADER_BYTES as u64;
        self.spare = Spare::Taken;
        self.open_chunk(true);
    }

    fn open_chunk(&mut self, begins_segment: bool) {
        let mut bytes = std::mem::take(&mut self.blank);
        bytes.resize(frame::HEADER_BYTES, 0);
        self.pending.push(Chunk {
            segment: self.segment,
            offset: self.offset,
            group: self.next_group,
            begins_segment,
            bytes,
            opened: Instant::now(),
            waiters: Vec::new(),
            evict: Vec::new(),
        });
        self.next_group += 1;
        self.offset += frame::HEADER_BYTES as u64;
    }

    /// Returns a receiver that is notified when everything appended until now is on the disk; `None` if it is
    /// already.
    pub fn ticket(&mut self) -> Option<oneshot::Receiver<()>> {
        let (sender, receiver) = oneshot::channel();
        if let Some(chunk) = self.pending.last_mut() {
            chunk.waiters.push(sender);
            self.urgent = true;
        } else if self.in_flight {
            self.in_flight_waiters.push(sender);
        } else {
            return None;
        }
        Some(receiver)
    }

    /// Evicts the item's body from memory once it is on the disk.
    pub fn evict_when_written(&mut self, queue: u32, number: u64, place: Place) {
        if let Some(chunk) = self.pending.last_mut() {
            chunk.evict.push((queue, number, place));
        }
    }
}

impl Journal for Front {
    fn append(&mut self, record: &Record<'_>) -> Place {
        if self.pending.is_empty() {
            self.open_chunk(false);
        }
        let segment = self.segment;
        let Some(chunk) = self.pending.last_mut() else { return Place::default() };
        let before = chunk.bytes.len();
        let body = record.encode(&mut chunk.bytes) as u64;
        self.offset += (chunk.bytes.len() - before) as u64;
        Place { segment, offset: u32::try_from(chunk.offset + body).unwrap_or(u32::MAX) }
    }

    fn read(&mut self, place: Place, len: u32) -> io::Result<Box<[u8]>> {
        let file = self.files.get(&place.segment).ok_or(io::ErrorKind::NotFound)?;
        let mut body = vec![0; len as usize].into_boxed_slice();
        file.read_exact_at(&mut body, u64::from(place.offset))?;
        Ok(body)
    }
}
