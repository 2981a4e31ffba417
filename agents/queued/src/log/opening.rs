//! Opens the log of a data directory, to continue it where it ends.

use super::directory::Directory;
use super::disk::{DiskLog, Segments, Spare, Writer};
use super::head::{Head, HeadFile};
use super::reading::{self, LogContents};
use super::segment::{self, HEADER_BYTES, Header, VERSION};
use super::walk::GroupsEnd;
use super::{LogError, frame};
use crate::commit::LogEnd;
use crate::engine::core::Core;
use crate::metrics::QueuedMetrics;
use kit::disk::sync::sync_name;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Reads the log of a directory, or begins one; returns it with the state that it holds.
pub fn open(
    dir: &Path,
    segment_bytes: u64,
    memory_bytes_max: u64,
    metrics: &QueuedMetrics,
) -> Result<(Core, DiskLog), LogError> {
    let directory = Directory::lock(dir)?;
    let found = match reading::read(dir, memory_bytes_max, fastrand::u64(..))? {
        Some(found) => found,
        None => begin(dir, segment_bytes)?,
    };
    let LogContents { core, mut segments, last, end, torn } = found;
    let open = |number: u32| {
        let path = segment::path(dir, number);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        file.map(Arc::new).map_err(LogError::io("open", &path))
    };
    let oldest = segments.keys().next().copied().unwrap_or(last.number);
    let last_bytes = segments.remove(&last.number).unwrap_or(0);
    let (path, file, offset) = (segment::path(dir, last.number), open(last.number)?, end.offset as u64);
    let mut files = HashMap::from([(last.number, file.clone())]);
    for &number in segments.keys() {
        files.insert(number, open(number)?);
    }
    if torn {
        metrics.torn_tails.inc();
        tracing::warn!(
            event = "unfinished_group_cut",
            path = %path.display(),
            offset,
            "cut an unfinished group that the last run left; it was never acknowledged"
        );
        // Otherwise it might later be mistaken for a finished group.
        segment::fill(&file, offset, last_bytes).map_err(LogError::io("clear the end of", &path))?;
    }
    // The last run's writes may not be on the disk yet, and new groups continue them.
    file.sync_all().map_err(LogError::io("sync", &path))?;
    sync_name(dir, &file).map_err(LogError::io("sync", dir))?;
    let group = end.next_group.saturating_sub(1);
    let head = open_head(dir, Head { epoch: last.epoch, oldest, newest: last.number, group })?;
    // The promises of version 2 hold only from its own first segment on. A shorter file is not extended
    // either, since a sync alone is not trusted to keep a file's new length.
    let goes_on = last.version == VERSION && last_bytes >= segment_bytes;
    let ready = segment::has_spare(dir, segment_bytes)
        || (!goes_on && segment::make_spare(dir, segment_bytes).is_ok());
    let log = DiskLog {
        directory,
        end: LogEnd {
            segment: last.number,
            offset,
            next_group: end.next_group,
            segment_bytes,
            full: !goes_on,
            segment_header_bytes: HEADER_BYTES as u64,
            group_header_bytes: frame::HEADER_BYTES,
        },
        writer: Mutex::new(Writer {
            header: last,
            file,
            last_checksum: end.checksum,
            appended_group: group,
            synced_group: group,
            doubtful_from: None,
            head_is_behind: head.head().newest != last.number,
            checked: None,
        }),
        head: Mutex::new(head),
        segments: Mutex::new(Segments {
            files,
            finished: segments,
            spare: if ready { Spare::Ready } else { Spare::Missing },
        }),
        metrics: metrics.clone(),
    };
    Ok((core, log))
}

/// Creates the first segment, after the head: a segment of this version without a head looks like a log that
/// lost its newest segments.
fn begin(dir: &Path, segment_bytes: u64) -> Result<LogContents, LogError> {
    if !segment::has_spare(dir, segment_bytes) {
        segment::make_spare(dir, segment_bytes).map_err(LogError::io("start a log in", dir))?;
    }
    let mut head = HeadFile::open(dir, Head { epoch: fastrand::u64(1..), oldest: 1, newest: 0, group: 0 })?;
    head.ensure()?;
    let last = Header::new(1, head.head().epoch, 1, None);
    segment::begin(dir, &last).map_err(LogError::io("start a log in", dir))?;
    let core = Core::new(last.epoch, fastrand::u64(..));
    let end = GroupsEnd { offset: HEADER_BYTES, checksum: 0, next_group: 1 };
    Ok(LogContents { core, segments: BTreeMap::from([(1, segment_bytes)]), last, end, torn: false })
}

/// Opens the head, and makes it name what was found. On a full disk it cannot always name the newest segment
/// yet: the daemon starts, but nothing is appended before the head is written.
fn open_head(dir: &Path, found: Head) -> Result<HeadFile, LogError> {
    let mut head = HeadFile::open(dir, found)?;
    // A head that does not exist yet means the first start of this version. On a full disk it continues as
    // version 1 did, until there is space.
    let named = if head.head() == found { head.ensure() } else { head.begin(found.newest, found.group) };
    if let Err(error) = named {
        tracing::warn!(
            event = "log_head_failed",
            %error,
            cause = error.source(),
            "cannot write the log's head yet"
        );
    }
    Ok(head)
}
