//! `queued repair`: keeps the readable part of a damaged directory, and reports what was lost.

use super::check::{examine, files, no_directory, say};
use super::directory::Directory;
use super::head::{self, Head, HeadFile};
use super::reading::{LogContents, SegmentSource};
use super::segment::{self, End, Header};
use super::{LogError, frame};
use crate::engine::contract::Limits;
use crate::engine::core::{Balance, Core, Imbalance, Journal, Turn};
use crate::engine::item::Place;
use crate::engine::record::Record;
use kit::exit::Fatal;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Size of a repaired log's groups: large enough to be few, small enough for the memory.
const GROUP_BYTES: usize = 1 << 20;
/// Size of a repaired log's segments: each is read as a whole.
const SEGMENT_BYTES: u64 = 64 << 20;
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
    let aside = rewrite(dir, files.numbers(), files.head(), &mut found)?;
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
fn rewrite(
    dir: &Path,
    old: &[u32],
    head: Option<Head>,
    found: &mut LogContents,
) -> Result<PathBuf, LogError> {
    let known = old.iter().copied().chain(head.map(|head| head.newest)).max();
    let number = known.map_or(1, |last| last.saturating_add(1));
    let new = dir.join("repaired");
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(LogError::io("remove", &new))?;
    }
    std::fs::create_dir(&new).map_err(LogError::io("make", &new))?;
    let first_group = found.next_group.max(head.map_or(0, |head| head.group)).saturating_add(1);
    let header = Header::new(number, found.core.epoch, first_group, None);
    let mut copy = LogWriter::begin(dir, &new, header)?;
    copy.all(&mut found.core)?;
    let LogWriter { header: last, group, .. } = copy;

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
        put_aside(segment::path(dir, *old))?;
    }
    if head::path(dir).exists() {
        put_aside(head::path(dir))?;
    }
    std::fs::remove_dir(&new).map_err(LogError::io("remove", &new))?;
    let head = Head { epoch: last.epoch, oldest: number, newest: last.number, group: group - 1 };
    HeadFile::open(dir, head)?.ensure()?;
    Ok(aside)
}

/// Writes groups directly into the files of a new log.
struct LogWriter<'a> {
    /// The directory of the old segments.
    old: &'a Path,
    old_files: HashMap<u32, File>,
    new: &'a Path,
    file: File,
    header: Header,
    at: u64,
    group: u64,
    last_checksum: u32,
    bytes: Vec<u8>,
}

impl<'a> LogWriter<'a> {
    fn begin(old: &'a Path, new: &'a Path, header: Header) -> Result<LogWriter<'a>, LogError> {
        Ok(LogWriter {
            old,
            old_files: HashMap::new(),
            new,
            file: begin_file(new, &header)?,
            header,
            at: header.bytes() as u64,
            group: header.first_group,
            last_checksum: 0,
            bytes: vec![0; frame::HEADER_BYTES],
        })
    }

    fn all(&mut self, core: &mut Core) -> Result<(), LogError> {
        core.checkpoint(self);
        let items: Vec<(u32, u64, Place)> = core
            .queues()
            .flat_map(|queue| queue.items().iter().map(|item| (queue.number, item.number, item.place)))
            .collect();
        for (queue, number, place) in items {
            let item = core.queue_by_number(queue).and_then(|queue| queue.items().get(number));
            let Some((body, len)) = item.map(|item| (item.body.clone(), item.len)) else { continue };
            let body = match body {
                Some(body) => body,
                None => {
                    let path = segment::path(self.old, place.segment);
                    self.read(place, len).map_err(LogError::io("read", &path))?
                }
            };
            core.rewrite(queue, number, place, &body, self);
            if self.bytes.len() > GROUP_BYTES {
                self.end_group()?;
                if self.at > SEGMENT_BYTES {
                    self.next_segment()?;
                    core.checkpoint(self);
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
        self.end_group()?;
        self.finish_file()
    }

    fn path(&self) -> PathBuf {
        segment::path(self.new, self.header.number)
    }

    fn finish_file(&self) -> Result<(), LogError> {
        self.file.sync_all().map_err(LogError::io("sync", &self.path()))?;
        segment::sync_name(self.new, &self.file).map_err(LogError::io("sync", self.new))
    }

    fn next_segment(&mut self) -> Result<(), LogError> {
        self.finish_file()?;
        let end = End { nonce: self.header.nonce, checksum: self.last_checksum };
        let Header { number, epoch, .. } = self.header;
        self.header = Header::new(number.saturating_add(1), epoch, self.group, Some(end));
        self.file = begin_file(self.new, &self.header)?;
        self.at = self.header.bytes() as u64;
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), LogError> {
        self.last_checksum = frame::seal(&mut self.bytes, self.header.nonce, self.group, 1);
        self.file.write_all_at(&self.bytes, self.at).map_err(LogError::io("write to", &self.path()))?;
        self.at += self.bytes.len() as u64;
        self.group += 1;
        self.bytes.truncate(frame::HEADER_BYTES);
        Ok(())
    }
}

fn begin_file(dir: &Path, header: &Header) -> Result<File, LogError> {
    let path = segment::path(dir, header.number);
    let make = || {
        let file = File::create(&path)?;
        file.write_all_at(&header.encode(), 0)?;
        Ok(file)
    };
    make().map_err(LogError::io("make", &path))
}

impl Journal for LogWriter<'_> {
    fn append(&mut self, record: &Record<'_>) -> Place {
        let body = record.encode(&mut self.bytes) as u64;
        Place { segment: self.header.number, offset: u32::try_from(self.at + body).unwrap_or(u32::MAX) }
    }

    fn read(&mut self, place: Place, len: u32) -> io::Result<Box<[u8]>> {
        let file = match self.old_files.entry(place.segment) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(File::open(segment::path(self.old, place.segment))?)
            }
        };
        let mut body = vec![0; len as usize].into_boxed_slice();
        file.read_exact_at(&mut body, u64::from(place.offset))?;
        Ok(body)
    }
}
