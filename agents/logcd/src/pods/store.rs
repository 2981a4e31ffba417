//! The directory for archives of container logs: a directory for each namespace, the checkpoint and the lock.
//!
//! A commit writes the members and new end marks, syncs them and replaces the checkpoint. Only then do
//! readers see the new members. The checkpoint decides: after a crash, each archive is cut to the length in
//! the checkpoint.

use crate::archive::codec::Packer;
use crate::archive::header::{self, Meta};
use crate::archive::pack_error::PackError;
use crate::error::ArchiveError;
use crate::pods::cursor::{Checkpoint, Cursors};
use crate::pods::day_room::day_room;
use crate::pods::hour::ArchiveName;
use crate::pods::hour_archive::{HourArchive, NamespaceDir, draft_name, is_draft};
use crate::pods::overview::Usage;
use crate::pods::place::{ContainerDir, LogName, is_label};
use crate::pods::share::{self, Bound, Hours};
use crate::pods::veil::{self, Span};
use crate::safe_dir::SafeDir;
use jiff::Timestamp;
use kit::disk::free_space::{MinFree, Space};
use kit::disk::lock::{Lock, Refused};
use kit::disk::sync::still_takes_changes;
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::fsync;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LOCK: &str = ".logcd-pods.lock";
pub const CHECKPOINT: &str = ".logcd-pods.checkpoint";
/// The size of a member before compression. Members of this size take 2 % more space than a single large one,
/// but a reader unpacks only the members that it needs.
const MEMBER_BYTES: usize = 256 * 1024;
/// Limits on a part of an hour. Smaller parts cost more than they save.
const PART_BYTES_MIN: u64 = 256 * 1024;
const PART_BYTES_MAX: u64 = 1 << 30;
/// The number of parts that fit into a namespace's share. A namespace loses at most one part at a time.
const PARTS_PER_SHARE: u64 = 8;
/// The space that is freed on a full disk in addition to the missing space.
const ROOM_BYTES: u64 = 64 << 20;
/// Limit on the bytes that are read before a commit, so that little is read again after a crash.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;

/// The bounds on the archives.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub all: Bound,
    /// The bounds of some namespaces. The first pattern that matches decides.
    pub namespaces: Vec<(crate::logs::pattern::Pattern, Bound)>,
    pub min_free: MinFree,
    /// The directory for the archives of days, if it is on the same file system. Such an archive needs room
    /// while it is made.
    pub days: Option<PathBuf>,
}

impl Bounds {
    pub fn of(&self, namespace: &str) -> Bound {
        let own = self.namespaces.iter().find(|(pattern, _)| pattern.matches(namespace.as_bytes()));
        own.map_or(self.all, |(_, bound)| *bound)
    }
}

/// An archive that was removed to keep a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    pub namespace: String,
    pub bytes: u64,
    /// True if the namespace used at most its share, and the archive was removed because the disk was full.
    pub is_within_share: bool,
}

/// The archives that were removed, and an error if others could not be removed.
pub struct Evictions {
    pub evicted: Vec<Evicted>,
    pub result: Result<(), ArchiveError>,
}

struct Open {
    dir: NamespaceDir,
    archive: HourArchive,
}

/// Entries that are not compressed yet, all of one namespace.
#[derive(Default)]
struct PendingMember {
    namespace: String,
    tar: Vec<u8>,
    span: Span,
    /// The container of the last entry.
    last: Option<ContainerDir>,
    /// True if the previous member ended with lines of the same container. After a backlog, the lines of the
    /// next container may be hours older. A reader that needs those would then have to read the end of the
    /// first container, too.
    is_continued: bool,
}

impl PendingMember {
    fn clear(&mut self) {
        self.tar.clear();
        self.span = None;
        self.last = None;
    }
}

pub struct Store {
    at: SafeDir,
    lock: Lock,
    mode: u32,
    packer: Packer,
    bounds: Bounds,
    hour: ArchiveName,
    open: BTreeMap<String, Open>,
    /// The committed sizes of all archives.
    sizes: BTreeMap<String, Hours>,
    /// The archives that the checkpoint names. They are not removed.
    listed: BTreeSet<(String, ArchiveName)>,
    batch: PendingMember,
    /// The container whose lines end the last member.
    packed_last: Option<ContainerDir>,
    next_entry: u64,
    next_entry_committed: u64,
    uncommitted_bytes: u64,
    /// False if an archive may have lines that a roll-back could not remove.
    is_rolled_back: bool,
    /// False while the new checkpoint is in place but might not survive a power loss.
    is_checkpoint_synced: bool,
    /// The compressed bytes since the last commit.
    pub packed_bytes: u64,
}

impl Store {
    /// Opens and locks the directory, and restores all archives to the last commit. Returns the cursors of
    /// that commit by container directory.
    pub fn open(
        path: &Path,
        mode: u32,
        level: u32,
        bounds: Bounds,
        hour: ArchiveName,
    ) -> Result<(Store, BTreeMap<String, Cursors>), ArchiveError> {
        let at = SafeDir::open(path)
            .map_err(ArchiveError::on("open the directory for archives of container logs,", path))?;
        let lock = Lock::at(&path.join(LOCK), 0o600).map_err(|refused| match refused {
            Refused::Held(holder) => ArchiveError::Locked { path: path.display().to_string(), holder },
            Refused::Io(error) => ArchiveError::on("lock", &path.join(LOCK))(error),
        })?;
        let checkpoint = match load(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => set_aside(path, &error)?,
            loaded => loaded.map_err(ArchiveError::on("read", &path.join(CHECKPOINT)))?,
        };
        let has_checkpoint = checkpoint.is_some();
        let checkpoint = checkpoint.unwrap_or_default();
        let mut store = Store {
            at,
            lock,
            mode,
            packer: hour.codec().packer(level)?,
            bounds,
            hour,
            open: BTreeMap::new(),
            sizes: BTreeMap::new(),
            listed: BTreeSet::new(),
            batch: PendingMember::default(),
            packed_last: None,
            next_entry: checkpoint.next_entry,
            next_entry_committed: checkpoint.next_entry,
            uncommitted_bytes: 0,
            is_rolled_back: true,
            is_checkpoint_synced: true,
            packed_bytes: 0,
        };
        store.restore(&checkpoint)?;
        if !has_checkpoint && store.kept_bytes() > 0 {
            // Readers skip entries whose numbers are above the checkpoint's. The numbers of the lost
            // checkpoint started at 0 or at an earlier time, and grew by less than one a millisecond.
            store.next_entry = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
            store.next_entry_committed = store.next_entry;
        }
        Ok((store, checkpoint.containers))
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), ArchiveError> {
        for record in &checkpoint.open {
            let (namespace, Ok(name)) = (&record.namespace, record.name.parse::<ArchiveName>()) else {
                continue;
            };
            let Some(dir) = self.namespace_dir(namespace)? else { continue };
            match HourArchive::reopen(&dir, name, record)? {
                Some(archive) => {
                    self.listed.insert((namespace.clone(), name));
                    match name.is_same_hour(self.hour) && name.codec() == self.hour.codec() {
                        true => drop(self.open.insert(namespace.clone(), Open { dir, archive })),
                        false => archive.close(&dir)?,
                    }
                }
                None => {
                    tracing::warn!(event = "hour_archive_altered", namespace, archive = %name, "an archive is not as it was; it stays, and a new part begins");
                }
            }
        }
        for namespace in names(&self.at, b"")?.into_iter().filter(|name| is_label(name)) {
            let Some(dir) = self.namespace_dir(&namespace)? else { continue };
            let mut hours = Hours::new();
            for name in names(&self.at, namespace.as_bytes())? {
                if is_draft(&name) {
                    if let Err(error) = dir.remove(&name) {
                        let error = error.one_line();
                        tracing::warn!(
                            event = "leftover_removal_failed",
                            error,
                            "cannot remove an unfinished archive"
                        );
                    }
                } else if let Ok(archive) = name.parse::<ArchiveName>() {
                    let path = self.at.path().join(&namespace).join(&name);
                    let bytes = path.symlink_metadata().map_err(ArchiveError::on("look at", &path))?.len();
                    hours.insert(archive, bytes);
                }
            }
            self.sizes.insert(namespace, hours);
        }
        Ok(())
    }

    fn namespace_dir(&self, namespace: &str) -> Result<Option<NamespaceDir>, ArchiveError> {
        let path = self.at.path().join(namespace);
        match SafeDir::open(&path) {
            Ok(at) => Ok(Some(NamespaceDir::new(at))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Another program has created a file or a link with this name.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => Ok(None),
            Err(error) => Err(ArchiveError::on("open", &path)(error)),
        }
    }

    /// Closes the archives of the previous hour. Everything must be committed first.
    pub fn begin_hour(&mut self, hour: ArchiveName) -> Result<(), ArchiveError> {
        if !self.hour.is_same_hour(hour) {
            self.show_others()?;
            let shown = || self.open.values().filter(|open| !open.archive.is_accepted());
            shown().try_for_each(|open| open.archive.close(&open.dir))?;
            // The other archives are closed when readers see them.
            self.open.retain(|_, open| open.archive.is_accepted());
            self.hour = hour;
        }
        Ok(())
    }

    pub fn hour(&self) -> ArchiveName {
        self.hour
    }

    /// Adds lines of a log as an entry, which readers see after the next commit. Refuses a namespace with
    /// [`ArchiveError::NamespaceRefused`], and then keeps no uncommitted lines of it.
    pub fn add(
        &mut self,
        dir: &ContainerDir,
        log: &LogName,
        meta: Meta,
        span: Span,
        lines: &[u8],
    ) -> Result<(), ArchiveError> {
        self.admit(&dir.pod.namespace)?;
        let batch = &self.batch;
        let is_at_an_end = batch.is_continued && batch.last.as_ref() != Some(dir);
        let is_full = batch.tar.len() + lines.len() > MEMBER_BYTES;
        if batch.namespace != dir.pod.namespace || is_full || is_at_an_end {
            self.flush()?;
            self.batch.namespace.clone_from(&dir.pod.namespace);
        }
        if self.batch.tar.is_empty() {
            self.batch.is_continued = self.packed_last.as_ref() == Some(dir);
        }
        if self.batch.last.as_ref() != Some(dir) {
            self.batch.last = Some(dir.clone());
        }
        // The number keeps the entries of a container in order of time, even across restarts.
        let name = format!("{dir}/{:010}.{}.log", self.next_entry, log.restart);
        self.next_entry += 1;
        let tar = &mut self.batch.tar;
        tar.extend(header::encode(name.as_bytes(), &meta, lines.len() as u64));
        tar.extend(lines);
        tar.resize(tar.len().next_multiple_of(512), 0);
        self.batch.span = match (self.batch.span, span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
        self.uncommitted_bytes += lines.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        if self.batch.tar.is_empty() {
            return Ok(());
        }
        let member = veil::member(self.hour.codec(), &mut self.packer, &self.batch.tar, self.batch.span)?;
        self.check_room(member.len() as u64)?;
        let open = self.open.get_mut(&self.batch.namespace).ok_or_else(PackError::thread_gone)?;
        open.archive.append(&member)?;
        self.packed_bytes += member.len() as u64;
        self.packed_last = self.batch.last.take();
        self.batch.clear();
        Ok(())
    }

    fn check_room(&self, bytes: u64) -> Result<(), ArchiveError> {
        let space = self.space()?;
        match self.bounds.min_free.forbids(space, bytes) {
            true => Err(ArchiveError::DiskFull {
                free: space.available_bytes,
                needed: bytes.saturating_add(self.bounds.min_free.bytes_of(space.capacity_bytes)),
                floor: self.bounds.min_free,
            }),
            false => Ok(()),
        }
    }

    fn space(&self) -> Result<Space, ArchiveError> {
        Space::of(self.at.fd()).map_err(ArchiveError::on("ask for the free space of", self.at.path()))
    }

    /// Prepares the archive of a namespace for lines.
    fn admit(&mut self, namespace: &str) -> Result<(), ArchiveError> {
        self.show_others()?;
        let refuse = |error| refusal(namespace, error);
        if let Some(open) = self.open.get_mut(namespace) {
            open.archive.show(&open.dir).map_err(refuse)?;
            if open.archive.name.is_same_hour(self.hour) {
                return Ok(());
            }
            // In its own hour, the archive could not be shown to readers.
            open.archive.close(&open.dir)?;
            self.open.remove(namespace);
        }
        let dir = self.made_dir(namespace).map_err(refuse)?;
        let hours = self.sizes.entry(namespace.to_owned()).or_default();
        // The clock may have been set back, so this hour is not always the last one.
        let last = hours.keys().rfind(|name| name.is_same_hour(self.hour));
        let name = last.map_or(self.hour, |last| last.next_part(self.hour.codec()));
        let archive = HourArchive::create(&dir, name, self.mode).map_err(refuse)?;
        self.open.insert(namespace.to_owned(), Open { dir, archive });
        Ok(())
    }

    fn made_dir(&self, namespace: &str) -> Result<NamespaceDir, ArchiveError> {
        let path = self.at.path().join(namespace);
        let mode = Mode::from_bits_truncate(
            0o700 | (self.mode & 0o070) | ((self.mode & 0o040) >> 2) | ((self.mode & 0o004) >> 2),
        );
        match mkdirat(self.at.fd(), namespace, mode) {
            Ok(()) => fsync(self.at.fd())
                .map_err(|e| ArchiveError::on("sync the directory", self.at.path())(e.into()))?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(ArchiveError::on("create", &path)(errno.into())),
        }
        Ok(NamespaceDir::new(SafeDir::open(&path).map_err(ArchiveError::on("open", &path))?))
    }

    /// True if a commit is needed now, because enough was read or a part is full.
    pub fn is_full(&self) -> bool {
        self.uncommitted_bytes >= UNCOMMITTED_BYTES_MAX
            || self.open.iter().any(|(namespace, open)| {
                let news = open.archive.written() - open.archive.committed();
                open.archive.written() >= self.part_bytes(namespace) && news >= PART_BYTES_MIN
            })
    }

    fn part_bytes(&self, namespace: &str) -> u64 {
        (self.share_bytes(namespace) / PARTS_PER_SHARE).clamp(PART_BYTES_MIN, PART_BYTES_MAX)
    }

    /// Returns an equal share of the space, or the namespace's own bound if that is smaller.
    fn share_bytes(&self, namespace: &str) -> u64 {
        let share = self.bounds.all.bytes / self.sizes.len().max(1) as u64;
        share.min(self.bounds.of(namespace).bytes)
    }

    /// Returns the figures of each namespace's archives.
    pub fn usages(&self) -> BTreeMap<String, Usage> {
        let usage = |(namespace, hours): (&String, &Hours)| {
            let usage = Usage {
                kept_bytes: hours.values().sum(),
                share_bytes: self.share_bytes(namespace),
                archives: hours.len(),
                oldest: hours.keys().next().copied(),
            };
            (namespace.clone(), usage)
        };
        self.sizes.iter().filter(|(_, hours)| !hours.is_empty()).map(usage).collect()
    }

    /// Writes everything since the last commit, and a checkpoint with the cursors. After an error, the caller
    /// must roll back. Otherwise the caller must call [`Store::show`], which may be retried.
    pub fn commit(&mut self, containers: BTreeMap<String, Cursors>) -> Result<(), ArchiveError> {
        self.show_others()?;
        self.flush()?;
        self.drop_altered()?;
        let has_news = |open: &&mut Open| open.archive.has_news() && !open.archive.is_accepted();
        for open in self.open.values_mut().filter(has_news) {
            open.archive.seal(&open.dir)?;
        }
        let records = self.open.iter().map(|(namespace, open)| open.archive.record(namespace)).collect();
        let checkpoint = Checkpoint { next_entry: self.next_entry, open: records, containers };
        self.save(&checkpoint)?;
        // From here on the commit has happened. An archive must not be cut any more, because the checkpoint
        // has its new length.
        self.is_checkpoint_synced = false;
        self.listed =
            self.open.iter().map(|(namespace, open)| (namespace.clone(), open.archive.name)).collect();
        self.next_entry_committed = self.next_entry;
        self.uncommitted_bytes = 0;
        for (namespace, open) in &mut self.open {
            open.archive.accept();
            self.sizes
                .entry(namespace.clone())
                .or_default()
                .insert(open.archive.name, open.archive.committed());
        }
        Ok(())
    }

    /// Drops the open archives that were removed or replaced. Fails if there were any, because their new
    /// lines must be added again, to a new part.
    fn drop_altered(&mut self) -> Result<(), ArchiveError> {
        let mut altered = Vec::new();
        let has_news = |open: &Open| open.archive.has_news() && !open.archive.is_accepted();
        for (namespace, open) in self.open.iter().filter(|(_, open)| has_news(open)) {
            if !open.archive.has_its_name(&open.dir)? {
                altered.push(namespace.clone());
            }
        }
        let mut result = Ok(());
        for namespace in altered {
            if let Some(Open { archive, .. }) = self.open.remove(&namespace) {
                tracing::warn!(event = "hour_archive_altered", namespace, archive = %archive.name, "an archive was removed or replaced; a new part begins");
                result = Err(ArchiveError::ArchiveChanged(format!("{namespace}/{}", archive.name)));
            }
        }
        result
    }

    /// Closes full archives. Removes archives above a bound or in the way of a day's archive. May be retried
    /// after an error.
    pub fn tidy(&mut self) -> Evictions {
        let closed = self.close_full_parts();
        let today = self.hour.day();
        let removable = share::to_remove(
            &self.sizes,
            |namespace| self.bounds.of(namespace),
            self.bounds.all.bytes,
            today,
        );
        let Evictions { mut evicted, result } = self.remove(removable);
        let mut result = closed.and(result);
        let missing = match self.bounds.days.as_deref().map_or(0, day_room) {
            0 => Ok(0),
            room => self.space().map(|space| {
                let floor = self.bounds.min_free.bytes_of(space.capacity_bytes);
                floor.saturating_add(room).saturating_sub(space.available_bytes)
            }),
        };
        match missing {
            Ok(0) => {}
            Ok(missing) => {
                let closed = self.closed();
                let kept: u64 = closed.values().flat_map(BTreeMap::values).sum();
                let bound_of = |namespace: &str| self.bounds.of(namespace);
                let removable = share::to_remove(&closed, bound_of, kept.saturating_sub(missing), today);
                let evictions = self.remove_for_space(removable);
                evicted.extend(evictions.evicted);
                result = result.and(evictions.result);
            }
            Err(error) => result = result.and(Err(error)),
        }
        Evictions { evicted, result }
    }

    /// Makes the last commit durable, then visible. May be retried after an error; the commit stays. If the
    /// archive of a namespace cannot be shown, all others are shown, and the error is
    /// [`ArchiveError::NamespaceRefused`].
    pub fn show(&mut self) -> Result<(), ArchiveError> {
        if !self.is_checkpoint_synced {
            self.sync_checkpoint()?;
            self.is_checkpoint_synced = true;
        }
        let mut result = Ok(());
        for (namespace, open) in &mut self.open {
            if let Err(error) = open.archive.show(&open.dir) {
                result = Err(refusal(namespace, error));
            }
        }
        result
    }

    /// Shows the archives of the last commit, except those of refused namespaces.
    fn show_others(&mut self) -> Result<(), ArchiveError> {
        match self.show() {
            Err(ArchiveError::NamespaceRefused { .. }) => Ok(()),
            shown => shown,
        }
    }

    fn close_full_parts(&mut self) -> Result<(), ArchiveError> {
        let full: Vec<String> = self
            .open
            .iter()
            .filter(|(namespace, open)| {
                !open.archive.is_accepted() && open.archive.committed() >= self.part_bytes(namespace)
            })
            .map(|(namespace, _)| namespace.clone())
            .collect();
        for namespace in full {
            if let Some(open) = self.open.get(&namespace) {
                open.archive.close(&open.dir)?;
                self.open.remove(&namespace);
            }
        }
        Ok(())
    }

    /// Removes archives, except those that the checkpoint names. These are considered again after the next
    /// commit.
    fn remove(&mut self, names: Vec<(String, ArchiveName)>) -> Evictions {
        let (mut evicted, mut result) = (Vec::new(), Ok(()));
        for (namespace, name) in names {
            if self.listed.contains(&(namespace.clone(), name)) {
                continue;
            }
            let dir = self.namespace_dir(&namespace);
            let removed = dir.and_then(|dir| dir.map_or(Ok(()), |dir| dir.remove(&name.to_string())));
            if removed.is_err() {
                result = removed;
                continue;
            }
            let hours = self.sizes.get_mut(&namespace);
            let bytes = hours.and_then(|hours| hours.remove(&name)).unwrap_or(0);
            evicted.push(Evicted { namespace, bytes, is_within_share: false });
        }
        Evictions { evicted, result }
    }

    /// Removes old archives until this many bytes are free. Takes them from the namespaces that use the most.
    /// Removes none if all of them together are too small.
    pub fn make_room(&mut self, needed_bytes: u64) -> Result<Evictions, ArchiveError> {
        let missing = needed_bytes.saturating_sub(self.space()?.available_bytes);
        let bound_of = |namespace: &str| self.bounds.of(namespace);
        let removable = share::to_make_room(&self.closed(), bound_of, missing, ROOM_BYTES, self.hour.day());
        Ok(self.remove_for_space(removable))
    }

    /// Returns the archives that may be removed, with their sizes.
    fn closed(&self) -> BTreeMap<String, Hours> {
        let mut closed = self.sizes.clone();
        for (namespace, hours) in &mut closed {
            hours.retain(|name, _| !self.listed.contains(&(namespace.clone(), *name)));
        }
        closed
    }

    /// Removes archives because the disk is full.
    fn remove_for_space(&mut self, removable: Vec<(String, ArchiveName)>) -> Evictions {
        let within: BTreeSet<String> = self
            .usages()
            .into_iter()
            .filter(|(_, usage)| usage.kept_bytes <= usage.share_bytes)
            .map(|(namespace, _)| namespace)
            .collect();
        let mut evictions = self.remove(removable);
        for evicted in &mut evictions.evicted {
            evicted.is_within_share = within.contains(&evicted.namespace);
        }
        evictions
    }

    pub fn kept_bytes(&self) -> u64 {
        self.sizes.values().flat_map(BTreeMap::values).sum()
    }

    /// True if the path no longer leads to this directory.
    pub fn is_moved(&self) -> bool {
        let now = SafeDir::open(self.at.path()).and_then(|at| at.id());
        match (now, self.at.id()) {
            (Ok(now), Ok(opened)) => now != opened,
            (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
            (Ok(_), Err(_)) => false,
        }
    }

    /// Repeats a roll-back that has failed. Until it succeeds, nothing may be added: the next commit would
    /// include lines that are read again.
    pub fn complete_roll_back(&mut self) -> Result<(), ArchiveError> {
        match self.is_rolled_back {
            true => Ok(()),
            false => self.roll_back(),
        }
    }

    /// Rolls back all archives to the last commit. Returns the first error.
    pub fn roll_back(&mut self) -> Result<(), ArchiveError> {
        self.batch.clear();
        self.packed_bytes = 0;
        self.uncommitted_bytes = 0;
        self.next_entry = self.next_entry_committed;
        let drafts: Vec<String> =
            self.open.iter().filter(|(_, open)| open.archive.is_draft()).map(|(n, _)| n.clone()).collect();
        let mut removed = Ok(());
        for namespace in drafts {
            if let Some(Open { dir, archive }) = self.open.remove(&namespace) {
                // A draft that stays is removed before a new one is made.
                removed = removed.and(dir.remove(&draft_name(archive.name)));
            }
        }
        let shorten = |open: &mut Open| open.archive.roll_back();
        let shortened = self.open.values_mut().map(shorten).fold(Ok(()), Result::and);
        self.is_rolled_back = shortened.is_ok();
        removed.and(shortened)
    }

    fn save(&self, checkpoint: &Checkpoint) -> Result<(), ArchiveError> {
        let path = self.at.path().join(CHECKPOINT);
        let draft = draft_of_checkpoint(self.at.path());
        let failed = |error| ArchiveError::on("write", &path)(error);
        let bytes = serde_json::to_vec(checkpoint).map_err(|error| failed(error.into()))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(self.mode).custom_flags(nix::libc::O_NOFOLLOW);
        let write = |mut file: File| {
            file.write_all(&bytes)?;
            file.sync_all()
        };
        options.open(&draft).and_then(write).map_err(failed)?;
        let name = draft.file_name().unwrap_or_default();
        renameat(self.at.fd(), name, self.at.fd(), CHECKPOINT).map_err(|errno| failed(errno.into()))
    }

    fn sync_checkpoint(&self) -> Result<(), ArchiveError> {
        fsync(self.at.fd())
            .map_err(io::Error::from)
            .and_then(|()| still_takes_changes(self.lock.file()))
            .map_err(ArchiveError::on("sync the directory", self.at.path()))
    }
}

/// Returns the error for one namespace, unless the error affects the whole disk or directory.
fn refusal(namespace: &str, error: ArchiveError) -> ArchiveError {
    let concerns_all = |source: &io::Error| {
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem)
    };
    match error {
        error if error.is_disk_full() => error,
        ArchiveError::Io { source, doing } if concerns_all(&source) => ArchiveError::Io { doing, source },
        error => ArchiveError::NamespaceRefused { namespace: namespace.to_owned(), why: error.one_line() },
    }
}

fn draft_of_checkpoint(out: &Path) -> PathBuf {
    out.join(format!("{CHECKPOINT}.draft"))
}

/// Loads the checkpoint, if there is one. The error for a damaged one is [`io::ErrorKind::InvalidData`].
pub fn load(out: &Path) -> io::Result<Option<Checkpoint>> {
    let bytes = match std::fs::read(out.join(CHECKPOINT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Renames a damaged checkpoint. Only the daemon may do this, because it holds the lock.
fn set_aside(out: &Path, error: &io::Error) -> Result<Option<Checkpoint>, ArchiveError> {
    let path = out.join(CHECKPOINT);
    tracing::error!(event = "checkpoint_damaged", path = %path.display(), %error, "the checkpoint is damaged: logs that are archived already are archived again");
    let kept = out.join(format!("{CHECKPOINT}.damaged"));
    std::fs::rename(&path, kept).map_err(ArchiveError::on("rename", &path))?;
    Ok(None)
}

/// Lists a directory below `at`. Skips names that are not UTF-8, because neither kubelet nor logcd makes
/// them.
pub fn names(at: &SafeDir, path: &[u8]) -> Result<Vec<String>, ArchiveError> {
    let listed = || -> io::Result<Vec<String>> {
        let mut directory = nix::dir::Dir::from_fd(at.directory(path)?)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    };
    listed().map_err(ArchiveError::on("list", &at.path().join(String::from_utf8_lossy(path).as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trial::kubelet::lines_of_all;

    fn hour(name: &str) -> ArchiveName {
        name.parse().unwrap()
    }

    fn store(out: &Path, days: Option<PathBuf>) -> Store {
        let all = Bound { bytes: u64::MAX, days: u32::MAX };
        let bounds = Bounds { all, namespaces: Vec::new(), min_free: "1".parse().unwrap(), days };
        Store::open(out, 0o600, 3, bounds, hour("2026-11-28T14.tar.gz")).unwrap().0
    }

    fn add(store: &mut Store, namespace: &str) -> Result<(), ArchiveError> {
        let dir: ContainerDir = format!("{namespace}_web_1/app").parse().unwrap();
        store.add(&dir, &"0.log".parse().unwrap(), Meta::default(), None, b"line\n")
    }

    #[test]
    fn archives_give_way_to_those_of_days() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().canonicalize().unwrap();
        let mut store = store(&out, Some(out.clone()));
        let archive = |store: &mut Store| {
            add(store, "shop").unwrap();
            store.commit(BTreeMap::new()).unwrap();
            store.show().unwrap();
            let Evictions { evicted, result } = store.tidy();
            result.unwrap();
            evicted
        };
        assert_eq!(archive(&mut store), []);
        store.begin_hour(hour("2026-11-28T15.tar.gz")).unwrap();
        assert_eq!(archive(&mut store), []);
        // The file is larger than the free space.
        File::create(out.join("all-logs-2026-11-28.tar.gz")).unwrap().set_len(1 << 43).unwrap();
        let evicted = archive(&mut store);
        assert_eq!(
            evicted.iter().map(|evicted| (&*evicted.namespace, evicted.is_within_share)).collect::<Vec<_>>(),
            [("shop", true)]
        );
        // The present archive must stay.
        assert_eq!(lines_of_all(&out).len(), 2);
    }

    #[test]
    fn failed_roll_back_of_a_namespace_leaves_no_lines_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().canonicalize().unwrap();
        let mut store = store(&out, None);
        add(&mut store, "good").unwrap();
        store.commit(BTreeMap::new()).unwrap();
        store.show().unwrap();
        add(&mut store, "good").unwrap();
        // The lines of the other namespace are written before those of this one.
        add(&mut store, "bad").unwrap();
        let draft = out.join("bad").join(draft_name(hour("2026-11-28T14.tar.gz")));
        std::fs::remove_file(&draft).unwrap();
        std::fs::create_dir(&draft).unwrap();
        assert!(store.roll_back().is_err());
        store.complete_roll_back().unwrap();
        add(&mut store, "good").unwrap();
        store.commit(BTreeMap::new()).unwrap();
        store.show().unwrap();
        assert_eq!(lines_of_all(&out).len(), 2);
    }

    #[test]
    fn strange_archive_of_a_namespace_delays_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().canonicalize().unwrap();
        let mut store = store(&out, None);
        add(&mut store, "bad").unwrap();
        add(&mut store, "good").unwrap();
        let strange = out.join("bad").join("2026-11-28T14.tar.gz");
        std::fs::create_dir(&strange).unwrap();
        store.commit(BTreeMap::new()).unwrap();
        for _ in 0..2 {
            let shown = store.show();
            assert!(
                matches!(&shown, Err(ArchiveError::NamespaceRefused { namespace, .. }) if namespace == "bad"),
                "{shown:?}"
            );
            assert!(matches!(add(&mut store, "bad"), Err(ArchiveError::NamespaceRefused { .. })));
            add(&mut store, "good").unwrap();
            store.commit(BTreeMap::new()).unwrap();
        }
        store.show_others().unwrap();
        std::fs::remove_dir(&strange).unwrap();
        add(&mut store, "bad").unwrap();
        store.commit(BTreeMap::new()).unwrap();
        store.show().unwrap();
        assert_eq!(lines_of_all(&out).len(), 5);
    }
}
