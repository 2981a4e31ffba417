//! The directory for archives of container logs: a directory for each namespace, the checkpoint and the lock.
//!
//! A commit writes the members and new end marks, syncs them and adds its changes to the checkpoint. Only then
//! do readers see the new members. The checkpoint decides: after a crash, each archive is cut to the length in
//! the checkpoint.

mod checkpoint_change;
mod checkpoint_file;
mod eviction;

pub use checkpoint_file::{CHECKPOINT, load};
pub use eviction::{Evicted, Evictions};

use crate::archive::codec::Packer;
use crate::archive::header::Meta;
use crate::archive::pack_error::PackError;
use crate::error::ArchiveError;
use crate::pods::bounds::Bounds;
use crate::pods::cursor::{Checkpoint, Cursors};
use crate::pods::hour::ArchiveName;
use crate::pods::hour_archive::{HourArchive, NamespaceDir, draft_name, is_draft};
use crate::pods::overview::NamespaceUsage;
use crate::pods::pending_member::PendingMember;
use crate::pods::place::{ContainerDir, LogName, is_label};
use crate::pods::share::Hours;
use crate::pods::veil::{self, Span};
use crate::safe_dir::SafeDir;
use checkpoint_file::CheckpointFile;
use jiff::Timestamp;
use kit::disk::free_space::Space;
use kit::disk::lock::{Lock, Refused};
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::fsync;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

const LOCK: &str = ".logcd-pods.lock";
/// Limits on a part of an hour. Smaller parts cost more than they save.
const PART_BYTES_MIN: u64 = 256 * 1024;
const PART_BYTES_MAX: u64 = 1 << 30;
/// The number of parts that fit into a namespace's share. A namespace loses at most one part at a time.
const PARTS_PER_SHARE: u64 = 8;
/// Limit on the bytes that are read before a commit, so that little is read again after a crash.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;

struct Open {
    dir: NamespaceDir,
    archive: HourArchive,
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
    pending: PendingMember,
    next_entry: u64,
    next_entry_committed: u64,
    uncommitted_bytes: u64,
    /// False if an archive may have lines that a roll-back could not remove.
    is_rolled_back: bool,
    checkpoint_file: CheckpointFile,
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
        let checkpoint = checkpoint_file::load_or_set_aside(&at, lock.file())?;
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
            pending: PendingMember::default(),
            next_entry: checkpoint.next_entry,
            next_entry_committed: checkpoint.next_entry,
            uncommitted_bytes: 0,
            is_rolled_back: true,
            checkpoint_file: CheckpointFile::new(mode),
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
        let listed = self.at.names(b"").map_err(ArchiveError::on("list", self.at.path()))?;
        for namespace in listed.into_iter().filter(|name| is_label(name)) {
            let Some(dir) = self.namespace_dir(&namespace)? else { continue };
            let mut hours = Hours::new();
            let path = self.at.path().join(&namespace);
            let listed = self.at.names(namespace.as_bytes()).map_err(ArchiveError::on("list", &path))?;
            for name in listed {
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
                    let path = path.join(&name);
                    let bytes = path.symlink_metadata().map_err(ArchiveError::on("look at", &path))?.len();
                    hours.insert(archive, bytes);
                }
            }
            if !hours.is_empty() {
                self.sizes.insert(namespace, hours);
            }
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

    /// Sets other bounds. They hold from the next commit on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
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
        if !self.pending.takes(dir, lines.len()) {
            self.flush()?;
        }
        self.pending.add(dir, log, self.next_entry, &meta, span, lines);
        self.next_entry += 1;
        self.uncommitted_bytes += lines.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        let Some(namespace) = self.pending.namespace() else { return Ok(()) };
        let member = veil::member(self.hour.codec(), &mut self.packer, &self.pending.tar, self.pending.span)?;
        self.check_room(member.len() as u64)?;
        let open = self.open.get_mut(namespace).ok_or_else(PackError::thread_gone)?;
        open.archive.append(&member)?;
        self.packed_bytes += member.len() as u64;
        self.pending.written();
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
        // A new namespace has no archive before its first commit.
        let namespaces = self.sizes.values().filter(|hours| !hours.is_empty()).count();
        let share = self.bounds.all.bytes / namespaces.max(1) as u64;
        share.min(self.bounds.of(namespace).bytes)
    }

    /// Returns the figures of each namespace's archives.
    pub fn usages(&self) -> BTreeMap<String, NamespaceUsage> {
        let usage = |(namespace, hours): (&String, &Hours)| {
            let usage = NamespaceUsage {
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
        // The open files would take the lines wherever the directory is.
        if self.is_moved() {
            let gone = io::Error::new(io::ErrorKind::NotFound, "it was removed, moved or replaced");
            return Err(ArchiveError::on("write to", self.at.path())(gone));
        }
        self.flush()?;
        self.drop_altered()?;
        for open in self.open.values_mut().filter(|open| open.archive.has_uncommitted()) {
            open.archive.seal(&open.dir)?;
        }
        let records = self.open.iter().map(|(namespace, open)| open.archive.record(namespace)).collect();
        let checkpoint = Checkpoint { next_entry: self.next_entry, open: records, containers };
        self.checkpoint_file.commit(&self.at, checkpoint)?;
        // From here on the commit has happened. An archive must not be cut any more, because the checkpoint
        // has its new length.
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
        for (namespace, open) in self.open.iter().filter(|(_, open)| open.archive.has_uncommitted()) {
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

    /// Makes the last commit durable, then visible. May be retried after an error; the commit stays. If the
    /// archive of a namespace cannot be shown, all others are shown, and the error is
    /// [`ArchiveError::NamespaceRefused`].
    pub fn show(&mut self) -> Result<(), ArchiveError> {
        self.checkpoint_file.sync(&self.at, self.lock.file())?;
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
        self.pending.clear();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::bounds::Bound;
    use std::path::PathBuf;
    use trial::kubelet::lines_of_all;

    pub(super) fn hour(name: &str) -> ArchiveName {
        name.parse().unwrap()
    }

    pub(super) fn store(out: &Path, days: Option<PathBuf>) -> Store {
        let all = Bound { bytes: u64::MAX, days: u32::MAX };
        let bounds = Bounds { all, namespaces: Vec::new(), min_free: "1".parse().unwrap(), days };
        Store::open(out, 0o600, 3, bounds, hour("2026-11-28T14.tar.gz")).unwrap().0
    }

    pub(super) fn add(store: &mut Store, namespace: &str) -> Result<(), ArchiveError> {
        let dir: ContainerDir = format!("{namespace}_web_1/app").parse().unwrap();
        store.add(&dir, &"0.log".parse().unwrap(), Meta::default(), None, b"line\n")
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
