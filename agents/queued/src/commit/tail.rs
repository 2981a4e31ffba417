//! The tail of the log: groups of records that the log does not have yet, and the requests that wait for
//! these groups.

use super::phase::{By, Event, Machine, PendingGroups, Phase};
use super::{Durability, Group, Log, LogEnd, Room};
use crate::engine::core::Journal;
use crate::engine::item::BodyPlace;
use crate::engine::record::Record;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const BLANK_BYTES_MAX: usize = 256 << 10;

/// Completes when the records of a request are as durable as the settings require. `None` if they already
/// are.
pub type Ticket = Option<oneshot::Receiver<()>>;

/// The work of the present phase.
#[derive(Debug)]
pub enum Work {
    Write { groups: Vec<Group>, check: bool },
    Sync,
}

/// The consequences of a commit.
#[derive(Debug)]
pub struct Committed {
    /// Requests to answer.
    pub waiters: Vec<oneshot::Sender<()>>,
    /// Items whose bodies may be evicted from memory, with their places.
    pub evict: Vec<(u32, u64, BodyPlace)>,
    /// True if the attempt before failed.
    pub works_again: bool,
}

#[derive(Debug)]
pub struct Tail {
    log: Arc<dyn Log>,
    /// The end of the log with everything pending; `None` if nothing is kept.
    end: Option<LogEnd>,
    /// The earliest end of the present segment. The records after the checkpoint must take at least as many
    /// bytes as the checkpoint itself. Otherwise checkpoints could be most of what is written.
    ends_after: u64,
    /// Groups that are not written yet, the oldest first.
    pending: Vec<Group>,
    /// An empty buffer for the next group.
    blank: Vec<u8>,
    /// Requests that wait for the groups that are being written now.
    late: Vec<oneshot::Sender<()>>,
    /// True after the work of the present phase was taken.
    taken: bool,
    machine: Machine,
    /// The reason why writing fails at present.
    failing: Option<String>,
    /// The last group that the log has.
    written_group: u64,
    /// The requested syncs, each with the last group that it must cover.
    sync_asked: Vec<(u64, oneshot::Sender<()>)>,
    /// The requested syncs that the present sync answers.
    syncing: Vec<oneshot::Sender<()>>,
}

impl Tail {
    pub fn new(log: Arc<dyn Log>, durability: Durability) -> Tail {
        let end = log.end();
        Tail {
            end,
            log,
            ends_after: 0,
            pending: Vec::new(),
            blank: Vec::new(),
            late: Vec::new(),
            taken: false,
            machine: Machine::new(durability),
            failing: None,
            written_group: end.map_or(0, |end| end.next_group.saturating_sub(1)),
            sync_asked: Vec::new(),
            syncing: Vec::new(),
        }
    }

    pub fn end(&self) -> Option<&LogEnd> {
        self.end.as_ref()
    }

    pub fn phase(&self) -> Phase {
        self.machine.phase()
    }

    pub fn due(&self) -> Option<Instant> {
        self.machine.due()
    }

    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    pub fn log_bytes(&self) -> u64 {
        self.end.map_or(0, |end| self.log.finished_bytes() + end.segment_bytes.max(end.offset))
    }

    fn pending(&self) -> PendingGroups {
        PendingGroups {
            since: self.pending.first().map(|group| group.began),
            waiting: self.pending.iter().map(|group| group.waiters.len()).sum(),
            bytes: self.pending.iter().map(|group| group.bytes.len()).sum(),
            begins_segment: self.pending.iter().any(|group| group.begins_segment),
            sync_asked: !self.sync_asked.is_empty(),
            asked_is_written: self.sync_asked.iter().all(|(group, _)| *group <= self.written_group),
        }
    }

    /// Applies an event to the machine; returns the new phase.
    pub fn on(&mut self, event: Event) -> Phase {
        let phase = self.machine.on(event, self.pending(), Instant::now());
        if phase == Phase::Closed {
            // Dropping the senders tells everyone who waits that no answer will come.
            self.pending.clear();
            self.late.clear();
            self.sync_asked.clear();
            self.syncing.clear();
        }
        phase
    }

    /// Called after each command. True if the event loop must wake the commit path.
    pub fn appended(&mut self) -> bool {
        if self.pending.is_empty() || matches!(self.phase(), Phase::Gathering { .. } | Phase::Writing(_)) {
            return false;
        }
        let before = self.phase();
        self.on(Event::Appended) != before
    }

    /// Takes the work of the present phase if it is for this thread and was not taken yet.
    pub fn take_work(&mut self, by: By) -> Option<Work> {
        let work = match self.phase() {
            _ if self.taken => return None,
            Phase::Writing(writer) if writer == by => {
                Work::Write { groups: std::mem::take(&mut self.pending), check: self.machine.begin() }
            }
            Phase::Syncing if by == By::Thread => {
                let asked = std::mem::take(&mut self.sync_asked).into_iter();
                let (covered, later): (Vec<_>, Vec<_>) =
                    asked.partition(|(group, _)| *group <= self.written_group);
                self.syncing = covered.into_iter().map(|(_, asked)| asked).collect();
                self.sync_asked = later;
                Work::Sync
            }
            _ => return None,
        };
        self.taken = true;
        Some(work)
    }

    /// Records that the log has these groups; returns the requests to answer and the items to evict.
    pub fn written(&mut self, groups: Vec<Group>, took: Option<Duration>) -> Committed {
        self.taken = false;
        let mut waiters = std::mem::take(&mut self.late);
        let mut evict = Vec::new();
        for mut group in groups {
            self.written_group = group.number;
            // Reuses the buffer: growing a new one for each group would cost more than filling it.
            if group.bytes.capacity() <= BLANK_BYTES_MAX {
                group.bytes.clear();
                self.blank = group.bytes;
            }
            match waiters.is_empty() {
                true => waiters = group.waiters,
                false => waiters.append(&mut group.waiters),
            }
            evict.append(&mut group.evict);
        }
        self.on(Event::Done { took, answered: waiters.len() });
        Committed { waiters, evict, works_again: self.failing.take().is_some() }
    }

    /// Records that the log could not keep these groups: they are the first to be retried. True if the
    /// attempt before did not fail.
    pub fn unwritten(&mut self, mut groups: Vec<Group>, why: String) -> bool {
        self.taken = false;
        groups.append(&mut self.pending);
        self.pending = groups;
        // Clients that gave up send another request. Without this, their old ones would add up during the
        // failure.
        self.pending.iter_mut().for_each(|group| group.waiters.retain(|waiter| !waiter.is_closed()));
        self.on(Event::Failed);
        self.failing.replace(why).is_none()
    }

    /// Ends the phase `Syncing`. After a failure the senders are dropped, which reports it to those who
    /// requested the sync.
    pub fn synced(&mut self, event: Event) {
        self.taken = false;
        for asked in self.syncing.drain(..) {
            if event != Event::Failed {
                let _ = asked.send(());
            }
        }
        self.on(event);
    }

    /// Decides if the log has space for a push of about this many bytes. A quarter of a segment is reserved
    /// for acks and leases.
    pub fn room_for(&self, bytes: u64) -> Room {
        let Some(end) = &self.end else { return Room::Ready };
        if let Some(why) = &self.failing {
            return Room::Refused(format!("the log cannot be written: {why}"));
        }
        let left = end.segment_bytes.saturating_sub(end.offset);
        if left >= bytes.saturating_add(end.segment_bytes / 4) {
            return Room::Ready;
        }
        self.log.next_segment()
    }

    /// True if a command of about this many bytes should begin a new segment.
    pub fn is_full_for(&self, bytes: u64) -> bool {
        let Some(end) = &self.end else { return false };
        let full = end.full
            || end.offset > end.segment_header_bytes
                && end.offset.saturating_add(bytes) > end.segment_bytes.max(self.ends_after);
        // Without a next segment, using up the rest of this one is better than waiting.
        full && self.log.next_segment() == Room::Ready
    }

    /// Directs all further records into the next segment, which begins with what `checkpoint` appends.
    pub fn begin_segment(&mut self, checkpoint: impl FnOnce(&mut Tail)) {
        if let Some(end) = &mut self.end {
            self.log.end_segment(end.segment, end.offset.max(end.segment_bytes));
            end.segment += 1;
            (end.offset, end.full) = (end.segment_header_bytes, false);
            self.begin_group(true);
        }
        self.checkpoint(checkpoint);
    }

    /// Appends a checkpoint, and notes where the segment may end.
    pub fn checkpoint(&mut self, checkpoint: impl FnOnce(&mut Tail)) {
        let began = self.end.map_or(0, |end| end.offset);
        checkpoint(self);
        let offset = self.end.map_or(0, |end| end.offset);
        self.ends_after = offset + (offset - began);
    }

    fn begin_group(&mut self, begins_segment: bool) {
        let Some(end) = &mut self.end else { return };
        let mut bytes = std::mem::take(&mut self.blank);
        bytes.resize(end.group_header_bytes, 0);
        self.pending.push(Group {
            number: end.next_group,
            segment: end.segment,
            offset: end.offset,
            begins_segment,
            began: Instant::now(),
            bytes,
            evict: Vec::new(),
            waiters: Vec::new(),
        });
        end.next_group += 1;
        end.offset += end.group_header_bytes as u64;
    }

    /// Returns a ticket for everything appended so far.
    pub fn ticket(&mut self) -> Ticket {
        let waiters = match (self.machine.phase(), self.pending.last_mut()) {
            // Without its sender, the ticket reports that no answer will come.
            (Phase::Closed, _) => return self.end.map(|_| oneshot::channel().1),
            (_, Some(group)) => &mut group.waiters,
            (Phase::Writing(_), None) => &mut self.late,
            (_, None) => return None,
        };
        let (sender, receiver) = oneshot::channel();
        waiters.push(sender);
        Some(receiver)
    }

    /// Requests a sync of everything appended so far, whatever the durability.
    pub fn ask_sync(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if self.machine.phase() != Phase::Closed {
            let last = self.end.map_or(0, |end| end.next_group.saturating_sub(1));
            self.sync_asked.push((last, sender));
            self.on(Event::Appended);
        }
        receiver
    }

    /// Evicts the item's body from memory once the log has it.
    pub fn evict_when_written(&mut self, queue: u32, number: u64, place: BodyPlace) {
        if let Some(group) = self.pending.last_mut() {
            group.evict.push((queue, number, place));
        }
    }
}

impl Journal for Tail {
    fn append(&mut self, record: &Record<'_>) -> BodyPlace {
        if self.end.is_none() {
            return BodyPlace::default();
        }
        if self.pending.is_empty() {
            self.begin_group(false);
        }
        let (Some(group), Some(end)) = (self.pending.last_mut(), &mut self.end) else {
            return BodyPlace::default();
        };
        let before = group.bytes.len();
        let body = record.encode(&mut group.bytes) as u64;
        end.offset += (group.bytes.len() - before) as u64;
        BodyPlace { segment: end.segment, offset: u32::try_from(group.offset + body).unwrap_or(u32::MAX) }
    }

    fn read(&mut self, place: BodyPlace, len: u32) -> io::Result<Box<[u8]>> {
        self.log.read(place, len)
    }
}
