//! Opens and closes an engine whose items are kept in a directory.

use super::housekeeping::Housekeeping;
use super::{Engine, Environment};
use crate::commit::Durability;
use crate::engine::contract::Limits;
use crate::engine::core::Core;
use crate::log::LogError;
use crate::log::directory::Directory;
use crate::log::disk::{self, DiskLog, Segments, Spare, Writer};
use crate::log::head::{Head, HeadFile};
use crate::log::reading::{self, LogContents, Torn};
use crate::log::segment::{self, HEADER_BYTES, Header, VERSION};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    pub dir: PathBuf,
    pub durability: Durability,
    pub segment_bytes: u64,
}

/// The threads of an engine; closing waits until they have written everything.
#[derive(Debug)]
pub struct Threads {
    engine: Engine,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts the thread that writes while the log is slow.
    pub fn start(engine: Engine) -> io::Result<Threads> {
        let shared = engine.0.clone();
        let writes = spawn("queued-log", move || shared.run_thread())?;
        Ok(Threads { engine, threads: vec![writes] })
    }

    /// Writes and syncs everything that is pending, then ends the threads.
    pub fn close(self) {
        self.engine.0.close();
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Reads the directory and continues from its state.
pub fn open(
    settings: LogSettings,
    limits: Limits,
    around: Environment,
) -> Result<(Engine, Threads), LogError> {
    let began = Instant::now();
    let LogSettings { dir, durability, segment_bytes } = settings;
    let directory = Arc::new(Directory::lock(&dir)?);
    let found = match reading::read(&dir, limits.memory_bytes_max, fastrand::u64(..))? {
        Some(found) => found,
        None => begin_first(&dir, segment_bytes)?,
    };
    if let Some(Torn { path, offset }) = &found.torn {
        around.metrics.torn_tails.inc();
        tracing::warn!(
            event = "unfinished_group_cut",
            path = %path.display(),
            offset,
            "cut an unfinished group that the last run left; it was never acknowledged"
        );
        clear_tail(path, *offset)?;
    }
    let (core, log) = continue_log(directory, found, segment_bytes, &around)?;
    let items = core.usage.items;
    let engine = Engine::over(log.clone(), core, durability, limits, around);
    let housekeeping = Housekeeping::new(log.clone());
    let failed = || LogError::io("start a thread for", &dir);
    let mut threads = Threads::start(engine.clone()).map_err(failed())?;
    let shared = engine.0.clone();
    threads.threads.push(spawn("queued-clean", move || housekeeping.run(&shared)).map_err(failed())?);
    tracing::info!(
        event = "items_loaded",
        dir = %dir.display(),
        items,
        took_ms = began.elapsed().as_millis(),
        "loaded the items"
    );
    Ok((engine, threads))
}

/// Opens the head and the segments that were read, so that the log can be continued.
fn continue_log(
    directory: Arc<Directory>,
    found: LogContents,
    segment_bytes: u64,
    around: &Environment,
) -> Result<(Core, Arc<DiskLog>), LogError> {
    let dir = directory.path().to_owned();
    let LogContents { core, segments, last, end, end_checksum, next_group, .. } = found;
    let mut files = HashMap::new();
    for &number in segments.keys() {
        let path = segment::path(&dir, number);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
        files.insert(number, Arc::new(file));
    }
    let last_path = segment::path(&dir, last.number);
    let file = files.get(&last.number).cloned();
    let file = file.ok_or_else(|| LogError::io("open", &last_path)(io::ErrorKind::NotFound.into()))?;
    // The last run's writes may not be on the disk yet, and new groups continue them.
    file.sync_all().map_err(LogError::io("sync", &last_path))?;
    segment::sync_name(&dir, &file).map_err(LogError::io("sync", &dir))?;
    let oldest = segments.keys().next().copied().unwrap_or(last.number);
    let group = next_group.saturating_sub(1);
    let (head, head_is_behind) =
        open_head(&dir, Head { epoch: last.epoch, oldest, newest: last.number, group })?;
    let last_bytes = segments.get(&last.number).copied().unwrap_or(0);
    // The promises of version 2 hold only from its own first segment on. A shorter file is not extended
    // either, since a sync alone is not trusted to keep a file's new length.
    let goes_on = last.version == VERSION && last_bytes >= segment_bytes;
    let ready = segment::has_spare(&dir, segment_bytes)
        || (!goes_on && segment::make_spare(&dir, segment_bytes).is_ok());
    let finished = segments.into_iter().filter(|(number, _)| *number != last.number).collect();
    let spare = if ready { Spare::Ready } else { Spare::Missing };
    let log = DiskLog::new(
        directory,
        disk::end_at(last.number, end, next_group, segment_bytes, !goes_on),
        Writer {
            header: last,
            file,
            last_checksum: end_checksum,
            appended_group: group,
            synced_group: group,
            doubtful_from: None,
            head_is_behind,
            checked: None,
        },
        head,
        Segments { files, finished, spare },
        around.metrics.clone(),
    );
    Ok((core, Arc::new(log)))
}

/// Opens the head, and makes it name what was found. True if it cannot name the newest segment yet: on a full
/// disk the daemon starts, but nothing is appended before the head is written.
fn open_head(dir: &Path, found: Head) -> Result<(HeadFile, bool), LogError> {
    let mut head = HeadFile::open(dir, found)?;
    let known = head.head();
    // A head that does not exist yet means the first start of this version. On a full disk it continues as
    // version 1 did, until there is space.
    let named = if known == found { head.ensure() } else { head.begin(found.newest, found.group) };
    if let Err(error) = named {
        tracing::warn!(
            event = "log_head_failed",
            %error,
            cause = error.source(),
            "cannot write the log's head yet"
        );
        return Ok((head, known.newest != found.newest));
    }
    Ok((head, false))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Creates the first segment, after the head: a segment of this version without a head looks like a log that
/// lost its newest segments.
fn begin_first(dir: &Path, segment_bytes: u64) -> Result<LogContents, LogError> {
    let failed = |path: &Path| LogError::io("start a log in", path);
    if !segment::has_spare(dir, segment_bytes) {
        segment::make_spare(dir, segment_bytes).map_err(failed(dir))?;
    }
    let mut head = HeadFile::open(dir, Head { epoch: fastrand::u64(1..), oldest: 1, newest: 0, group: 0 })?;
    head.ensure()?;
    let last = Header::new(1, head.head().epoch, 1, None);
    segment::begin(dir, &last).map_err(failed(dir))?;
    Ok(LogContents {
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
