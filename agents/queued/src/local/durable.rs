//! Opens and closes an engine whose items are kept in a directory.

use super::housekeeping::Housekeeping;
use super::writer::{self, Writer};
use super::{Local, Log, Surroundings};
use crate::engine::contract::Limits;
use crate::engine::core::Core;
use crate::log::directory::Directory;
use crate::log::front::{Front, Spare};
use crate::log::head::{Head, HeadFile};
use crate::log::reading::{self, Found, Torn};
use crate::log::segment::{self, HEADER_BYTES, Header, VERSION};
use crate::log::{Durability, LogError};
use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct Keeping {
    pub dir: PathBuf,
    pub durability: Durability,
    pub segment_bytes: u64,
}

/// The threads of an engine; closing waits until they have written everything.
#[derive(Debug)]
pub struct Threads {
    engine: Local,
    threads: Vec<JoinHandle<()>>,
    /// Keeps the directory locked as long as it is in use.
    _directory: Arc<Directory>,
}

impl Threads {
    /// Writes and syncs what is pending, then ends the threads.
    pub fn close(self) {
        let shared = &self.engine.0;
        {
            let _state = shared.lock();
            shared.closing.store(true, Ordering::Relaxed);
            shared.work.notify_all();
            shared.housework.notify_all();
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Reads the directory and continues from its state.
pub fn open(keeping: Keeping, limits: Limits, around: Surroundings) -> Result<(Local, Threads), LogError> {
    let began = Instant::now();
    let Keeping { dir, durability, segment_bytes } = keeping;
    let directory = Arc::new(Directory::lock(&dir)?);
    let found = match reading::read(&dir, limits.memory_bytes_max, fastrand::u64(..))? {
        Some(found) => found,
        None => begin_first(&dir, segment_bytes)?,
    };
    let Found { core, segments, last, end, end_checksum, next_group, torn } = found;
    if let Some(Torn { path, offset }) = &torn {
        around.metrics.torn_tails.inc();
        tracing::warn!(
            event = "unfinished_group_cut",
            path = %path.display(),
            offset,
            "cut an unfinished group that the last run left; it was never acknowledged"
        );
        clear_tail(path, *offset)?;
    }
    let mut files = HashMap::new();
    for &number in segments.keys() {
        let path = segment::path(&dir, number);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
        files.insert(number, Arc::new(file));
    }
    let last_path = segment::path(&dir, last.number);
    let file = files.get(&last.number).cloned();
    let file = file.ok_or_else(|| LogError::io("open", &last_path)(std::io::ErrorKind::NotFound.into()))?;
    // The last run's writes may not be on the disk yet, and new ones will build on them.
    file.sync_all().map_err(LogError::io("sync", &last_path))?;
    segment::sync_name(&dir, &file).map_err(LogError::io("sync", &dir))?;
    let oldest = segments.keys().next().copied().unwrap_or(last.number);
    let head = open_head(
        &dir,
        Head { epoch: last.epoch, oldest, newest: last.number, group: next_group.saturating_sub(1) },
    )?;
    let last_bytes = segments.get(&last.number).copied().unwrap_or(0);
    // Version 2 makes its promises only from a segment of its own on. A shorter file is not extended either,
    // since a sync is not trusted with a file's new length.
    let goes_on = last.version == VERSION && last_bytes >= segment_bytes;
    let spare = match segment::has_spare(&dir, segment_bytes)
        || (!goes_on && segment::make_spare(&dir, segment_bytes).is_ok())
    {
        true => Spare::Ready,
        false => Spare::Wanted,
    };
    let begins = !goes_on && spare == Spare::Ready;
    let finished = segments.into_iter().filter(|(number, _)| *number != last.number).collect();
    let mut front = Front {
        segment: last.number,
        offset: end,
        segment_bytes,
        ends_after: 0,
        next_group,
        pending: Vec::new(),
        blank: Vec::new(),
        urgent: false,
        enough: 0,
        expected: 0,
        in_flight: false,
        in_flight_waiters: Vec::new(),
        spare,
        failing: None,
        files,
        finished,
    };
    // A start appends a checkpoint: without this, many short runs would let one segment grow without end.
    if begins || front.is_full_for(0) {
        front.begin_segment();
    }
    let engine = Local::new(core, Log::Disk(Box::new(front)), limits, durability.name(), around);
    {
        let mut state = engine.0.lock();
        state.checkpoint();
        state.turn(0, Core::release_bound);
    }
    let head = Arc::new(Mutex::new(head));
    let writer = Writer {
        directory: directory.clone(),
        durability,
        header: last,
        file,
        last_checksum: end_checksum,
        head: head.clone(),
        last_synced_group: next_group.saturating_sub(1),
        unsynced: None,
        patient_until: None,
        // Not measured yet.
        took: Duration::MAX,
        left: None,
        looked: None,
    };
    let housekeeping = Housekeeping::new(directory.clone(), head);
    let shared = &engine.0;
    let _ = shared.directory.set(directory.clone());
    let pen = shared.pen.get_or_init(|| Arc::new(Mutex::new(writer))).clone();
    let threads = vec![
        spawn("queued-log", &dir, {
            let shared = shared.clone();
            move || writer::run(&pen, &shared)
        })?,
        spawn("queued-clean", &dir, {
            let shared = shared.clone();
            move || housekeeping.run(&shared)
        })?,
    ];
    let items = shared.lock().core.usage.items;
    tracing::info!(
        event = "items_loaded",
        dir = %dir.display(),
        items,
        took_ms = began.elapsed().as_millis(),
        "loaded the items"
    );
    Ok((engine.clone(), Threads { engine, threads, _directory: directory }))
}

/// Opens the head. It must name what was found before anything is added to the log.
fn open_head(dir: &Path, found: Head) -> Result<HeadFile, LogError> {
    let mut head = HeadFile::open(dir, found)?;
    let known = head.head();
    if known == found {
        // A head that does not exist yet means the first start of this version. On a full disk it continues
        // as version 1 did, until there is room.
        if let Err(error) = head.ensure() {
            tracing::warn!(event = "log_head_failed", %error, "cannot make the log's head yet");
        }
    } else {
        head.begin(found.newest, found.group)?;
    }
    Ok(head)
}

fn spawn(name: &str, dir: &Path, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LogError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map_err(LogError::io("start a thread for", dir))
}

/// Creates the first segment, after the head: a segment of this version without a head looks like a log that
/// lost its newest segments.
fn begin_first(dir: &Path, segment_bytes: u64) -> Result<Found, LogError> {
    let failed = |path: &Path| LogError::io("begin a log in", path);
    if !segment::has_spare(dir, segment_bytes) {
        segment::make_spare(dir, segment_bytes).map_err(failed(dir))?;
    }
    let mut head = HeadFile::open(dir, Head { epoch: fastrand::u64(1..), oldest: 1, newest: 0, group: 0 })?;
    head.ensure()?;
    let last = Header::new(1, head.head().epoch, 1, None);
    segment::begin(dir, &last).map_err(failed(dir))?;
    Ok(Found {
        core: Core::new(last.epoch, fastrand::u64(..)),
        segments: BTreeMap::from([(1, segment_bytes)]),
        last,
        end: HEADER_BYTES as u64,
        end_checksum: 0,
        next_group: 1,
        torn: None,
    })
}

/// Writes zeros after the last whole group, so that an unfinished group is never mistaken for a finished one
/// later.
fn clear_tail(path: &Path, from: u64) -> Result<(), LogError> {
    let failed = LogError::io("clear the end of", path);
    let clear = || {
        let file = OpenOptions::new().write(true).open(path)?;
        let len = file.metadata()?.len();
        let zeros = vec![0; 1 << 20];
        let mut at = from;
        while at < len {
            let now = usize::try_from(len - at).unwrap_or(zeros.len()).min(zeros.len());
            file.write_all_at(zeros.get(..now).unwrap_or_default(), at)?;
            at += now as u64;
        }
        file.sync_all()
    };
    clear().map_err(failed)
}
