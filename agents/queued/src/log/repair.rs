//! `queued check` and `queued repair`: telling all damage, and keeping what can be read.

use super::reading::{self, Damage, Found};
use super::segment::{self, HEADER_BYTES, Header};
use super::{LogError, frame, lock};
use crate::engine::contract::Limits;
use crate::engine::core::{Core, Journal, Turn};
use crate::engine::item::Place;
use crate::engine::record::Record;
use kit::exit::{Exit, Fatal};
use kit::lock::Lock;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Groups of a repaired log: large enough to be few, small enough for the memory.
const GROUP_BYTES: usize = 1 << 20;

fn say(line: &str) {
    // A reader that went away is no failure.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn tell(damage: &Damage) {
    say(&format!("damage: {} at byte {}: {}", damage.path.display(), damage.offset, damage.why));
}

fn summary(found: &Found) {
    for queue in found.core.queues() {
        let (items, dead) = (queue.backlog(), queue.tally(crate::engine::item::State::Dead));
        say(&format!("queue {}: {items} items, {dead} dead", queue.name));
    }
    if let Some(torn) = &found.torn {
        let (path, at) = (torn.path.display(), torn.offset);
        say(&format!("unfinished end: {path} at byte {at}; never acknowledged, the next start cuts it"));
    }
}

/// Tells what is there and each damaged place, and how many those are. The log is nobody else's while the lock is held.
fn examine(dir: &Path) -> Result<(Lock, Found, u64), Fatal> {
    if !dir.is_dir() {
        return Err(Fatal::new(Exit::Failure, format!("{} is no directory", dir.display())));
    }
    let lock = lock(dir)?;
    let mut count = 0;
    let found = reading::read_with(dir, &segment::list(dir)?, u64::MAX, 1, |damage| {
        count += 1;
        tell(&damage);
        Ok(())
    })?;
    summary(&found);
    Ok((lock, found, count))
}

/// Exit 0 when the log is sound, 1 when it is damaged.
pub fn check(dir: &Path) -> Result<(), Fatal> {
    let (_lock, _, count) = examine(dir)?;
    if count == 0 {
        say("sound");
        return Ok(());
    }
    let dir = dir.display();
    let hint = format!("{count} damaged places in {dir}; `queued repair {dir}` keeps what can be read");
    Err(Fatal::new(Exit::Failure, hint))
}

/// Writes a new log of all that can be read, and puts the old files aside.
pub fn repair(dir: &Path) -> Result<(), Fatal> {
    let (_lock, mut found, count) = examine(dir)?;
    if count == 0 {
        say("sound: nothing to repair");
        return Ok(());
    }
    let aside = rewrite(dir, &mut found)?;
    say(&format!("repaired; the old files are in {}", aside.display()));
    Ok(())
}

/// The new log is a single segment with the number after the last, complete before the old ones go aside.
fn rewrite(dir: &Path, found: &mut Found) -> Result<PathBuf, LogError> {
    let old = segment::list(dir)?;
    let number = old.last().map_or(1, |last| last + 1);
    let header = Header {
        nonce: fastrand::u32(1..),
        number,
        epoch: found.core.epoch,
        first_group: found.next_group + 1,
    };
    let path = dir.join("repaired");
    let file = File::create(&path).map_err(LogError::io("make", &path))?;
    let mut sink = Sink {
        file,
        header,
        at: HEADER_BYTES as u64,
        group: header.first_group,
        bytes: Vec::new(),
        failed: None,
    };
    sink.begin_group();
    sink.file.write_all_at(&header.encode(), 0).map_err(LogError::io("write to", &path))?;
    copy(&mut found.core, &mut sink);
    sink.end_group();
    if let Some(error) = sink.failed {
        return Err(LogError::io("write to", &path)(error));
    }
    sink.file.sync_all().map_err(LogError::io("sync", &path))?;

    let aside = dir.join(format!("damaged-{number:010}"));
    std::fs::create_dir(&aside).map_err(LogError::io("make", &aside))?;
    std::fs::rename(&path, segment::path(dir, number)).map_err(LogError::io("rename", &path))?;
    for old in old {
        let from = segment::path(dir, old);
        let to = aside.join(from.file_name().unwrap_or_default());
        std::fs::rename(&from, to).map_err(LogError::io("put aside", &from))?;
    }
    segment::sync_name(dir, &sink.file).map_err(LogError::io("sync", dir))?;
    Ok(aside)
}

fn copy(core: &mut Core, sink: &mut Sink) {
    core.checkpoint(sink);
    let items: Vec<(u32, u64, Place)> = core
        .queues()
        .flat_map(|queue| queue.items().iter().map(|item| (queue.number, item.number, item.place)))
        .collect();
    for (queue, number, place) in items {
        let body = core.queue_by_number(queue).and_then(|q| q.items().get(number)?.body.clone());
        core.rewrite(queue, number, place, &body.unwrap_or_default(), sink);
        if sink.bytes.len() > GROUP_BYTES {
            sink.end_group();
            sink.begin_group();
        }
    }
    let limits = Limits {
        queues_max: usize::MAX,
        memory_bytes_max: u64::MAX,
        spills: true,
        answer_bytes_max: u64::MAX,
    };
    core.rewrite_keys(u32::MAX, &mut Turn { now_ms: 0, limits: &limits, journal: sink });
}

/// Writes groups straight into a file.
struct Sink {
    file: File,
    header: Header,
    at: u64,
    group: u64,
    bytes: Vec<u8>,
    failed: Option<std::io::Error>,
}

impl Sink {
    fn begin_group(&mut self) {
        self.bytes.clear();
        self.bytes.resize(frame::HEADER_BYTES, 0);
    }

    fn end_group(&mut self) {
        frame::seal(&mut self.bytes, self.header.nonce, self.group, 1);
        if let Err(error) = self.file.write_all_at(&self.bytes, self.at) {
            self.failed.get_or_insert(error);
        }
        self.at += self.bytes.len() as u64;
        self.group += 1;
    }
}

impl Journal for Sink {
    fn append(&mut self, record: &Record<'_>) -> Place {
        let body = record.encode(&mut self.bytes) as u64;
        Place { segment: self.header.number, offset: u32::try_from(self.at + body).unwrap_or(u32::MAX) }
    }

    fn read(&mut self, _: Place, _: u32) -> std::io::Result<Box<[u8]>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
