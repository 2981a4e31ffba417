//! `queued repair`: keeps the readable part of a damaged directory, and reports what was lost.

use super::check::{examine, files, no_directory, say};
use super::directory::Directory;
use super::head::{self, Head, HeadFile};
use super::reading::LogContents;
use super::restore::write;
use super::segment::{self, End, Header};
use super::{LogError, frame};
use crate::engine::contract::Limits;
use crate::engine::core::{Balance, Core, Imbalance, Journal, Turn};
use crate::engine::item::BodyPlace;
use crate::engine::record::Record;
use kit::exit::Fatal;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Size of a repaired log's groups: large enough to be few, small enough to lose little with one.
const GROUP_BYTES: usize = 1 << 20;
/// Size of a repaired log's segments: each is written, and later read, as a whole.
const SEGMENT_BYTES: usize = 64 << 20;
/// Bodies beyond this limit are read again when they are copied.
const MEMORY_BYTES: u64 = 256 << 20;

/// Writes everything readable into a new log, and moves the old files aside.
pub fn repair(dir: &Path) -> Result<(), Fatal> {
    if !dir.is_dir() {
        return Err(no_directory(dir));
    }
    // Comes before any write: this may not be a data directory of ours.
    files(dir)?;
    let _directory = Directory::lock(dir)?;
    let mut files = files(dir)?;
    let (mut found, count) = examine(&mut files, MEMORY_BYTES)?;
    if count == 0 {
        say("sound: nothing to repair");
        return Ok(());
    }
    let lost: Vec<Imbalance> = found.core.imbalances().collect();
    found.core.settle_counters();
    let aside = rewrite(dir, files.head, found)?;
    for Imbalance { queue, balance, .. } in lost {
        match balance {
            Balance::Even => {}
            Balance::Missing(items) => say(&format!("queue {queue}: items lost: {items}")),
            Balance::Surplus(items) => {
                say(&format!("queue {queue}: items that were done and will be delivered again: {items}"));
            }
        }
    }
    say(&format!("repaired; the old files are in {}", aside.display()));
    Ok(())
}

/// Writes the new log. Its segments are numbered after the last old one, and are complete before the old ones
/// are moved aside, the oldest first. The head comes last: without it the server does not start.
fn rewrite(dir: &Path, head: Option<Head>, found: LogContents) -> Result<PathBuf, LogError> {
    let old = segment::list(dir)?;
    let known = old.iter().copied().chain(head.map(|head| head.newest)).max();
    let number = known.map_or(1, |last| last.saturating_add(1));
    let new = dir.join("repaired");
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(LogError::io("remove", &new))?;
    }
    std::fs::create_dir(&new).map_err(LogError::io("make", &new))?;
    let first_group = found.end.next_group.max(head.map_or(0, |head| head.group)).saturating_add(1);
    let header = Header::new(number, found.core.epoch, first_group, None);
    let mut writer = LogWriter { old: dir, new: &new, header, group: first_group, bytes: Vec::new(), at: 0 };
    writer.write_all(found.core)?;
    let LogWriter { header: last, group, .. } = writer;
    let head = Head { epoch: last.epoch, oldest: number, newest: last.number, group: group - 1 };

    let aside = dir.join(format!("damaged-{number:010}"));
    std::fs::create_dir_all(&aside).map_err(LogError::io("make", &aside))?;
    for number in number..=last.number {
        let from = segment::path(&new, number);
        std::fs::rename(&from, segment::path(dir, number)).map_err(LogError::io("rename", &from))?;
    }
    let put_aside = |from: PathBuf| {
        let to = aside.join(from.file_name().unwrap_or_default());
        std::fs::rename(&from, to).map_err(LogError::io("move away", &from))
    };
    for old in old {
        put_aside(segment::path(dir, old))?;
    }
    if head::path(dir).exists() {
        put_aside(head::path(dir))?;
    }
    std::fs::remove_dir(&new).map_err(LogError::io("remove", &new))?;
    HeadFile::open(dir, head)?.ensure()?;
    Ok(aside)
}

/// Builds the segments of a new log in memory, and writes each as a whole.
struct LogWriter<'a> {
    /// The directory of the old segments.
    old: &'a Path,
    new: &'a Path,
    header: Header,
    /// The number of the group to which records are appended.
    group: u64,
    /// The present segment, up to the last record.
    bytes: Vec<u8>,
    /// The place of the group in the segment.
    at: usize,
}

impl LogWriter<'_> {
    fn write_all(&mut self, mut core: Core) -> Result<(), LogError> {
        self.begin_segment(&mut core);
        let items: Vec<(u32, u64)> = core
            .queues()
            .flat_map(|queue| queue.items().iter().map(|item| (queue.number, item.number)))
            .collect();
        for (queue, number) in items {
            let item = core.queue_by_number(queue).and_then(|queue| queue.items().get(number));
            let Some((body, len, place)) = item.map(|item| (item.body.clone(), item.len, item.place)) else {
                continue;
            };
            let path = segment::path(self.old, place.segment);
            let body = body.map_or_else(|| self.read(place, len), Ok).map_err(LogError::io("read", &path))?;
            core.rewrite(queue, number, place, &body, self);
            if self.bytes.len() - self.at > GROUP_BYTES {
                let end = self.end_group();
                if self.at > SEGMENT_BYTES {
                    self.end_segment()?;
                    let Header { number, epoch, .. } = self.header;
                    self.header = Header::new(number.saturating_add(1), epoch, self.group, Some(end));
                    self.begin_segment(&mut core);
                }
            }
        }
        let limits = Limits {
            queues_max: usize::MAX,
            checkpoint_bytes_max: u64::MAX,
            memory_bytes_max: u64::MAX,
            spills: true,
            answer_bytes_max: u64::MAX,
        };
        core.rewrite_keys(u32::MAX, usize::MAX, &mut Turn { now_ms: 0, limits: &limits, journal: self });
        self.end_group();
        self.end_segment()
    }

    fn begin_segment(&mut self, core: &mut Core) {
        self.bytes = self.header.encode();
        self.begin_group();
        core.checkpoint(self);
    }

    fn end_segment(&self) -> Result<(), LogError> {
        write(&segment::path(self.new, self.header.number), self.bytes.get(..self.at).unwrap_or_default())
    }

    fn begin_group(&mut self) {
        self.at = self.bytes.len();
        self.bytes.resize(self.at + frame::HEADER_BYTES, 0);
    }

    fn end_group(&mut self) -> End {
        let nonce = self.header.nonce;
        let group = self.bytes.get_mut(self.at..).unwrap_or_default();
        let checksum = frame::seal(group, nonce, self.group, 1);
        self.group += 1;
        self.begin_group();
        End { nonce, checksum }
    }
}

impl Journal for LogWriter<'_> {
    fn append(&mut self, record: &Record<'_>) -> BodyPlace {
        let offset = u32::try_from(record.encode(&mut self.bytes)).unwrap_or(u32::MAX);
        BodyPlace { segment: self.header.number, offset }
    }

    fn read(&mut self, place: BodyPlace, len: u32) -> io::Result<Box<[u8]>> {
        let mut body = vec![0; len as usize].into_boxed_slice();
        let file = File::open(segment::path(self.old, place.segment))?;
        file.read_exact_at(&mut body, u64::from(place.offset))?;
        Ok(body)
    }
}
