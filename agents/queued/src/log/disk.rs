//! The log on the disk, as the commit path uses it.
//!
//! `DiskLog` appends groups to the newest segment, syncs it, begins the next segment, reads bodies back and
//! removes the oldest segment.

use super::directory::Directory;
use super::head::{self, HeadFile, NoBackup};
use super::segment::{self, End, Header};
use super::{LogError, frame, if_exists};
use crate::commit::{Group, Log, LogEnd, LogFailure, Room};
use crate::engine::item::BodyPlace;
use crate::metrics::QueuedMetrics;
use kit::disk::inode::Inode;
use kit::disk::sync::sync_directory;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// While groups are written, the directory and the segment are checked at this interval.
const CHECK_AFTER: Duration = Duration::from_millis(250);

/// The file for the segment after the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spare {
    Ready,
    /// The next segment will begin in this file, but is not written yet: the file still has the spare's name.
    Taken,
    Missing,
    /// The last attempt to make the file failed, for this reason.
    Failed(String),
}

/// The end of the newest segment.
#[derive(Debug)]
pub struct Writer {
    pub header: Header,
    pub file: Arc<File>,
    /// The checksum of the last group in the segment. The next segment's header holds it, to show which
    /// group it continues.
    pub last_checksum: u32,
    pub appended_group: u64,
    pub synced_group: u64,
    /// The first group that a failed sync may have lost. The kernel reports such a failure once, and later
    /// syncs succeed. Only writing the group again repairs the loss.
    pub doubtful_from: Option<u64>,
    /// True while the head does not name the newest segment yet. Nothing may be appended until it does.
    pub head_is_behind: bool,
    /// The last time at which the directory was confirmed to be the one that was opened.
    pub checked: Option<Instant>,
}

#[derive(Debug)]
pub struct Segments {
    pub files: HashMap<u32, Arc<File>>,
    /// Bytes of the finished segments.
    pub finished: BTreeMap<u32, u64>,
    pub spare: Spare,
}

#[derive(Debug)]
pub struct DiskLog {
    pub(super) directory: Directory,
    pub(super) end: LogEnd,
    /// Locked first: whoever holds this lock may lock the head, and then the segments.
    pub(super) writer: Mutex<Writer>,
    pub(super) head: Mutex<HeadFile>,
    pub(super) segments: Mutex<Segments>,
    pub(super) metrics: QueuedMetrics,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DiskLog {
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    pub fn segments(&self) -> MutexGuard<'_, Segments> {
        lock(&self.segments)
    }

    fn failed(&self, what: &'static str, segment: u32) -> impl FnOnce(io::Error) -> LogError + use<> {
        LogError::io(what, &segment::path(self.dir(), segment))
    }

    fn sync_writer(&self, writer: &mut Writer) -> Result<(), LogError> {
        let synced = writer.file.sync_data();
        if synced.is_err() && writer.appended_group > writer.synced_group {
            writer.doubtful_from.get_or_insert(writer.synced_group + 1);
        }
        synced.map_err(self.failed("sync", writer.header.number))?;
        self.metrics.syncs.inc();
        writer.synced_group = writer.appended_group;
        Ok(())
    }

    /// Fails if the path of the directory or segment leads to another one: an append would be lost.
    fn check_writer(&self, writer: &mut Writer) -> Result<(), LogError> {
        writer.checked = None;
        self.directory.check()?;
        self.check_file(writer.header.number, &writer.file)?;
        writer.checked = Some(Instant::now());
        Ok(())
    }

    fn check_file(&self, number: u32, file: &File) -> Result<(), LogError> {
        let path = segment::path(self.dir(), number);
        let ours = Inode::of(file).map_err(self.failed("look at", number))?;
        if Inode::at(&path).ok() == Some(ours) { Ok(()) } else { Err(LogError::Removed(path)) }
    }

    fn append_group(&self, writer: &mut Writer, group: &mut Group) -> Result<(), LogError> {
        if group.begins_segment && group.segment != writer.header.number {
            self.begin_segment(writer, group)?;
        }
        if group.number <= writer.synced_group {
            // An earlier attempt appended this group, and synced it before the next segment began.
            return Ok(());
        }
        let unsynced = u32::try_from(group.number - writer.synced_group).unwrap_or(u32::MAX);
        let checksum = frame::seal(&mut group.bytes, writer.header.nonce, group.number, unsynced);
        let written = writer.file.write_all_at(&group.bytes, group.offset);
        written.map_err(self.failed("write to", writer.header.number))?;
        (writer.last_checksum, writer.appended_group) = (checksum, group.number);
        self.metrics.written_bytes.inc_by(group.bytes.len() as u64);
        Ok(())
    }

    /// Begins the segment of this group. The old segment must be completely on the disk before the next one
    /// exists.
    fn begin_segment(&self, writer: &mut Writer, group: &Group) -> Result<(), LogError> {
        self.sync_writer(writer)?;
        self.check_writer(writer)?;
        let end = End { nonce: writer.header.nonce, checksum: writer.last_checksum };
        let header = Header::new(group.segment, writer.header.epoch, group.number, Some(end));
        let mut head = lock(&self.head);
        head.ensure()?;
        let file = segment::begin(self.dir(), &header).map_err(self.failed("begin", header.number))?;
        head.begin(header.number, writer.synced_group)?;
        (writer.file, writer.header, writer.last_checksum) = (Arc::new(file), header, 0);
        let mut segments = self.segments();
        segments.files.insert(header.number, writer.file.clone());
        segments.spare = Spare::Missing;
        Ok(())
    }

    /// Makes the file for the next segment. False if there is no room for it.
    pub fn make_spare(&self) -> bool {
        let there = self.directory.check().map_err(|gone| io::Error::other(gone.to_string()));
        let made = there.and_then(|()| segment::make_spare(self.dir(), self.end.segment_bytes));
        let is_made = made.is_ok();
        self.set_spare(&made.map_or_else(|error| Spare::Failed(error.to_string()), |()| Spare::Ready));
        is_made
    }

    /// Records the state of the spare, and reports when the disk becomes full and when it has room again.
    fn set_spare(&self, spare: &Spare) {
        let before = std::mem::replace(&mut self.segments().spare, spare.clone());
        let had_failed = matches!(before, Spare::Failed(_));
        self.metrics.no_space.set(i64::from(matches!(spare, Spare::Failed(_))));
        match spare {
            Spare::Failed(error) if !had_failed => tracing::error!(
                event = "segment_allocation_failed",
                error,
                dir = %self.dir().display(),
                "no room for another log segment; pushes are rejected when this one is full"
            ),
            Spare::Ready if had_failed => tracing::info!(
                event = "segment_allocated",
                "there is room for another log segment again: pushes are accepted"
            ),
            _ => {}
        }
    }

    /// Prevents backups from starting. `None` while a backup runs, because it needs every existing segment.
    pub fn keep_backups_out(&self) -> Option<NoBackup> {
        lock(&self.head).keep_backups_out()
    }

    /// Removes the oldest segment, or recycles its file as the next spare. True if it became the spare.
    pub fn remove(&self, number: u32) -> Result<bool, LogError> {
        let path = segment::path(self.dir(), number);
        // Another directory in the place of ours may have a file of this name.
        self.directory.check()?;
        let group = {
            let writer = lock(&self.writer);
            if writer.doubtful_from.is_some() {
                let why =
                    "a sync failed, so newer copies of its items may be lost; it is kept until a restart";
                return Err(LogError::io("remove", &path)(io::Error::other(why)));
            }
            writer.synced_group
        };
        let mut head = lock(&self.head);
        let Some(_no_backup) = head.keep_backups_out() else { return Ok(false) };
        head.let_go_before(number.saturating_add(1), group)?;
        drop(head);
        let right_size = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == self.end.segment_bytes);
        let mut segments = self.segments();
        segments.files.remove(&number);
        let recycled = segments.lacks_spare() && right_size;
        drop(segments);
        if recycled {
            std::fs::rename(&path, segment::spare_path(self.dir()))
                .map_err(self.failed("recycle", number))?;
        } else {
            // An earlier attempt may have removed it already.
            if_exists(std::fs::remove_file(&path)).map_err(self.failed("remove", number))?;
        }
        sync_directory(self.dir()).map_err(LogError::io("sync", self.dir()))?;
        // Must come after the sync. If this segment survived a power loss while later ones did not, the next
        // start would report damage.
        self.segments().finished.remove(&number);
        if recycled {
            self.set_spare(&Spare::Ready);
        }
        self.metrics.segments_freed.inc();
        Ok(recycled)
    }
}

impl Segments {
    /// True if the spare's name is free for a file.
    pub fn lacks_spare(&self) -> bool {
        matches!(self.spare, Spare::Missing | Spare::Failed(_))
    }
}

impl Log for DiskLog {
    fn end(&self) -> Option<LogEnd> {
        Some(self.end)
    }

    fn append(&self, groups: &mut [Group]) -> Result<(), LogFailure> {
        let mut writer = lock(&self.writer);
        if writer.checked.is_none_or(|checked| checked.elapsed() > CHECK_AFTER) {
            self.check_writer(&mut writer)?;
        }
        if writer.head_is_behind {
            lock(&self.head).begin(writer.header.number, writer.synced_group)?;
            writer.head_is_behind = false;
        }
        let first = groups.first().map(|group| group.number);
        for group in groups {
            self.append_group(&mut writer, group)?;
        }
        // Everything since the failed sync is written again.
        writer.doubtful_from = writer.doubtful_from.filter(|from| first.is_none_or(|first| first > *from));
        Ok(())
    }

    fn sync(&self) -> Result<(), LogFailure> {
        Ok(self.sync_writer(&mut lock(&self.writer))?)
    }

    /// Checks the head and each segment too: without them the next start would fail.
    fn check(&self) -> Result<(), LogFailure> {
        self.check_writer(&mut lock(&self.writer))?;
        if !lock(&self.head).is_there() {
            return Err(LogError::Removed(head::path(self.dir())).into());
        }
        // The lock is not held during the checks: a slow disk must not delay others who need the segments.
        let files = self.segments().files.clone();
        let missing =
            files.iter().find_map(|(number, file)| Some((number, self.check_file(*number, file).err()?)));
        match missing {
            // The segment may have been removed on purpose meanwhile.
            Some((number, error)) if self.segments().files.contains_key(number) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn read(&self, place: BodyPlace, len: u32) -> io::Result<Box<[u8]>> {
        let file = self.segments().files.get(&place.segment).cloned().ok_or(io::ErrorKind::NotFound)?;
        let mut body = vec![0; len as usize].into_boxed_slice();
        file.read_exact_at(&mut body, u64::from(place.offset))?;
        Ok(body)
    }

    fn next_segment(&self) -> Room {
        match &self.segments().spare {
            Spare::Ready => Room::Ready,
            Spare::Taken | Spare::Missing => Room::Soon,
            Spare::Failed(why) => Room::Refused(format!("no room for another log segment: {why}")),
        }
    }

    fn end_segment(&self, segment: u32, bytes: u64) {
        let mut segments = self.segments();
        segments.finished.insert(segment, bytes);
        segments.spare = Spare::Taken;
    }

    fn finished_bytes(&self) -> u64 {
        self.segments().finished.values().sum()
    }

    fn directory(&self) -> Option<&Path> {
        Some(self.dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::head::Head;
    use crate::log::segment::HEADER_BYTES;
    use kit::telemetry::metrics::Metrics;

    const SEGMENT_BYTES: u64 = 64 << 10;

    /// Creates a log of two segments; groups 1 and 2 were synced before it was opened.
    fn log(dir: &Path) -> DiskLog {
        let directory = Directory::lock(dir).unwrap();
        let mut head = HeadFile::open(dir, Head { epoch: 7, oldest: 1, newest: 2, group: 2 }).unwrap();
        head.ensure().unwrap();
        let begin = |number: u32| {
            segment::make_spare(dir, SEGMENT_BYTES).unwrap();
            let header = Header::new(number, 7, number.into(), None);
            (header, Arc::new(segment::begin(dir, &header).unwrap()))
        };
        let ((_, first), (header, file)) = (begin(1), begin(2));
        DiskLog {
            directory,
            end: LogEnd {
                segment: 2,
                offset: HEADER_BYTES as u64,
                next_group: 3,
                segment_bytes: SEGMENT_BYTES,
                full: false,
                segment_header_bytes: HEADER_BYTES as u64,
                group_header_bytes: frame::HEADER_BYTES,
            },
            segments: Mutex::new(Segments {
                files: HashMap::from([(1, first), (2, file.clone())]),
                finished: BTreeMap::from([(1, SEGMENT_BYTES)]),
                spare: Spare::Missing,
            }),
            writer: Mutex::new(Writer {
                header,
                file,
                last_checksum: 0,
                appended_group: 2,
                synced_group: 2,
                doubtful_from: None,
                head_is_behind: false,
                checked: None,
            }),
            head: Mutex::new(head),
            metrics: QueuedMetrics::register(&Metrics::new("queued")),
        }
    }

    fn group() -> [Group; 1] {
        let (bytes, offset) = (vec![0; frame::HEADER_BYTES], HEADER_BYTES as u64);
        let (evict, waiters, began) = (Vec::new(), Vec::new(), Instant::now());
        [Group { number: 3, segment: 2, offset, begins_segment: false, began, bytes, evict, waiters }]
    }

    /// Makes one sync fail by giving it a file that cannot be synced.
    fn fail_a_sync(log: &DiskLog) {
        let null = Arc::new(File::options().write(true).open("/dev/null").unwrap());
        let file = std::mem::replace(&mut lock(&log.writer).file, null);
        log.sync().unwrap_err();
        lock(&log.writer).file = file;
    }

    /// The group may hold the only other copy of the oldest segment's items. The next sync succeeds, because
    /// the system reports each failure once.
    #[test]
    fn segment_is_kept_after_a_failed_sync_of_its_copies() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        log.append(&mut group()).unwrap();
        fail_a_sync(&log);
        log.sync().unwrap();
        let refused = LogFailure::from(log.remove(1).unwrap_err());
        assert!(refused.source().unwrap().to_string().contains("a sync failed"), "{refused}");
        assert!(segment::path(dir.path(), 1).exists());
    }

    #[test]
    fn failed_sync_keeps_a_segment_until_it_is_copied_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        log.append(&mut group()).unwrap();
        fail_a_sync(&log);
        log.append(&mut group()).unwrap();
        log.sync().unwrap();
        assert!(log.remove(1).unwrap(), "it becomes the spare");
        assert!(!segment::path(dir.path(), 1).exists());
    }
}
