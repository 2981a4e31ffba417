//! The directory for archives: opened once, locked, and changed only by renaming new files.

use crate::archive::codec::Codec;
use crate::day;
use crate::error::{ArchiveError, REMOVED_BELOW_MOUNT};
use crate::safe_dir::{FileStatus, Kind, SafeDir, status_at, status_of};
use jiff::civil::Date;
use kit::disk::free_space::Space;
use kit::disk::lock::{Lock, Refused};
use kit::disk::sync::still_takes_changes;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, geteuid, linkat, unlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

const LOCK: &str = ".logcd.lock";

/// The directory for archives, for reading.
#[derive(Debug)]
pub struct ArchiveDir {
    at: SafeDir,
}

/// The directory for archives, locked by this process.
#[derive(Debug)]
pub struct LockedArchiveDir {
    dir: ArchiveDir,
    mode: u32,
    lock: Lock,
}

impl Deref for LockedArchiveDir {
    type Target = ArchiveDir;

    fn deref(&self) -> &ArchiveDir {
        &self.dir
    }
}

impl ArchiveDir {
    pub fn at(path: &Path) -> io::Result<ArchiveDir> {
        Ok(ArchiveDir { at: SafeDir::open(path)? })
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }

    pub fn path_of(&self, name: &str) -> String {
        self.at.path().join(name).display().to_string()
    }

    fn names(&self) -> Result<Vec<String>, ArchiveError> {
        let directory = self.at.directory(b"").and_then(|fd| Ok(Dir::from_fd(fd)?));
        let mut directory = directory.map_err(ArchiveError::on("list", self.path()))?;
        let names = directory.iter().filter_map(Result::ok);
        Ok(names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect())
    }

    /// Opens a file of logcd for reading. No symlink, FIFO or file of another user is trusted under its name,
    /// because its content is copied into the archives.
    pub fn open(&self, name: &str) -> Result<Option<(File, FileStatus)>, ArchiveError> {
        let file = match self.at.file(name.as_bytes()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ELOOP | nix::libc::ENXIO)) => {
                return Ok(None);
            }
            Err(error) => return Err(ArchiveError::doing(format!("open {}", self.path_of(name)))(error)),
        };
        let status =
            status_of(&file).map_err(ArchiveError::doing(format!("look at {}", self.path_of(name))))?;
        let ours = status.kind == Kind::Regular && (status.owner == geteuid().as_raw() || status.owner == 0);
        Ok(ours.then_some((file, status)))
    }

    pub fn space(&self) -> Result<Space, ArchiveError> {
        Space::of(self.at.fd()).map_err(ArchiveError::on("ask for the free space of", self.path()))
    }

    /// Lists the archives of both kinds, with their sizes.
    pub fn archives(&self) -> Result<Vec<(Date, Codec, u64)>, ArchiveError> {
        let mut archives = Vec::new();
        for name in self.names()? {
            let Some((day, codec)) = day::day_of(&name) else { continue };
            if let Some((_, status)) = self.open(&name)? {
                archives.push((day, codec, status.stamp.size));
            }
        }
        archives.sort_unstable();
        Ok(archives)
    }
}

impl LockedArchiveDir {
    /// Opens and locks the directory and removes the leftovers of a crash.
    pub fn take(path: &Path, mode: u32) -> Result<LockedArchiveDir, ArchiveError> {
        let at = SafeDir::open(path).map_err(ArchiveError::on("open the directory for archives,", path))?;
        if at.is_removed().unwrap_or(false) {
            let path = path.display().to_string();
            return Err(ArchiveError::DirMoved { path, how: REMOVED_BELOW_MOUNT });
        }
        let lock = open_new(&at, LOCK, OFlag::O_CREAT | OFlag::O_RDWR, 0o600).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(nix::libc::EROFS | nix::libc::EACCES) => " (--out chooses another)",
                _ => "",
            };
            ArchiveError::doing(format!("write to the directory for archives, {}{hint}", path.display()))(
                error,
            )
        })?;
        let lock = Lock::take(lock).map_err(|refused| match refused {
            Refused::Held(holder) => ArchiveError::Locked { path: path.display().to_string(), holder },
            Refused::Io(error) => ArchiveError::on("lock", &path.join(LOCK))(error),
        })?;
        let out = LockedArchiveDir { dir: ArchiveDir { at }, mode, lock };
        // The directory or the lock file may have been replaced between opening and locking.
        out.check_place()?;
        out.remove_leftovers()?;
        Ok(out)
    }

    fn remove_leftovers(&self) -> Result<(), ArchiveError> {
        for name in self.names()?.iter().filter(|name| day::is_draft(name)) {
            tracing::info!(event = "leftover_removed", name, "removing the leftover of a crash");
            self.remove(name)?;
        }
        Ok(())
    }

    pub fn lock_path(&self) -> PathBuf {
        self.path().join(LOCK)
    }

    /// Checks that the path still leads to the directory that this process holds, and to the lock that it
    /// holds.
    pub fn check_place(&self) -> Result<(), ArchiveError> {
        let path = self.path();
        let moved = |how| ArchiveError::DirMoved { path: path.display().to_string(), how };
        let now = match SafeDir::open(path) {
            Ok(now) => now,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(moved("removed or moved away"));
            }
            Err(error) => return Err(ArchiveError::on("open the directory for archives,", path)(error)),
        };
        let cannot_look =
            |error: io::Error| ArchiveError::on("examine the directory for archives,", path)(error);
        if now.is_removed().map_err(cannot_look)? {
            return Err(moved("removed"));
        }
        if now.id().map_err(cannot_look)? != self.at.id().map_err(cannot_look)? {
            return Err(moved("replaced by another"));
        }
        let locked = status_of(self.lock.file()).map_err(cannot_look)?.stamp;
        match status_at(now.fd(), OsStr::new(LOCK)) {
            Ok(status) if status.stamp.id() == locked.id() => Ok(()),
            _ => Err(moved("left without its lock file, which another process removed")),
        }
    }

    /// Creates an empty file, which gets its name by `publish`.
    pub fn draft(&self, target: &str) -> Result<File, ArchiveError> {
        let name = day::draft_name(target);
        self.remove(&name)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
        let file = open_new(&self.at, &name, flags, self.mode)
            .map_err(ArchiveError::doing(format!("create {}", self.path_of(&name))))?;
        // `--mode` is promised, whatever the umask is.
        fchmod(&file, Mode::from_bits_truncate(self.mode))
            .map_err(io::Error::from)
            .map_err(ArchiveError::doing(format!("set the mode of {}", self.path_of(&name))))?;
        Ok(file)
    }

    /// Renames the synced draft to `target`: readers see the old file or the new one.
    pub fn publish(&self, target: &str) -> Result<(), ArchiveError> {
        self.check_place()?;
        let draft = day::draft_name(target);
        renameat(self.at.fd(), draft.as_str(), self.at.fd(), target)
            .map_err(io::Error::from)
            .map_err(ArchiveError::doing(format!("rename {draft} to {}", self.path_of(target))))?;
        nix::unistd::fsync(self.at.fd())
            .map_err(io::Error::from)
            .and_then(|()| still_takes_changes(self.lock.file()))
            .map_err(ArchiveError::on("sync the directory", self.path()))?;
        // If the directory was moved in between, readers of the path do not see the archive.
        self.check_place()
    }

    /// Gives a file a second name, replacing any file that had it.
    pub fn keep_as(&self, name: &str, other: &str) -> Result<(), ArchiveError> {
        self.remove(other)?;
        linkat(self.at.fd(), name, self.at.fd(), other, AtFlags::empty())
            .map_err(io::Error::from)
            .map_err(ArchiveError::doing(format!("keep {} as {other}", self.path_of(name))))
    }

    pub fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        match unlinkat(self.at.fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(ArchiveError::doing(format!("remove {}", self.path_of(name)))(errno.into())),
        }
    }

    /// True if the file system shares disk blocks between files, so that a copy writes nothing.
    pub fn has_reflinks(&self) -> bool {
        use nix::sys::statfs::{BTRFS_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs};
        fstatfs(self.at.fd())
            .is_ok_and(|fs| [BTRFS_SUPER_MAGIC, XFS_SUPER_MAGIC].contains(&fs.filesystem_type()))
    }
}

fn open_new(at: &SafeDir, name: &str, flags: OFlag, mode: u32) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(at.fd(), name, how)?.into())
}
