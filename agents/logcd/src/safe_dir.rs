//! A directory shared with strangers: files are opened beneath it, no link is followed, and no open blocks.

use crate::archive::file_stamp::{FileStamp, FileTime};
use crate::archive::header::Meta;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Timestamps are as coarse as the kernel's tick: a change this soon after the previous one may leave no
/// trace in them.
const TICK_NS_MAX: i128 = 50_000_000;
/// A lookup that a rename disturbs is retried this many times. A file under a lease of another process fails
/// with the same error for up to 45 seconds.
const RETRIES_MAX: u32 = 16;

/// An opened directory. Names are resolved relative to it, even if it is renamed.
#[derive(Debug)]
pub struct SafeDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// The result of a look at a file: its identity, its header fields, and the properties that may exclude it.
#[derive(Clone, Copy, Debug)]
pub struct FileStatus {
    pub kind: Kind,
    pub stamp: FileStamp,
    pub meta: Meta,
    pub links: u64,
    pub allocated: u64,
    pub owner: u32,
}

impl FileStatus {
    /// True if the file is not a regular one, or has several names. A removed file has none.
    pub fn is_strange(&self) -> bool {
        self.kind != Kind::Regular || self.links > 1
    }

    /// True if the file's holes add up to more than this.
    pub fn has_holes_above(&self, bytes_max: u64) -> bool {
        self.stamp.size > self.allocated.saturating_add(bytes_max)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Directory,
    Symlink,
    /// A FIFO, socket or device: opening or reading it may block or have effects.
    Special,
}

impl SafeDir {
    /// Opens a directory by a path without symlinks.
    pub fn open(path: &Path) -> io::Result<SafeDir> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        Ok(SafeDir { fd: openat2(nix::fcntl::AT_FDCWD, path, how)?, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Returns the device and inode.
    pub fn id(&self) -> io::Result<(u64, u64)> {
        let stat = fstat(&self.fd)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// True if the directory has no name any more, so that nothing can be made in it. It can still be opened
    /// through a mount of it.
    pub fn is_removed(&self) -> io::Result<bool> {
        Ok(fstat(&self.fd)?.st_nlink == 0)
    }

    /// Opens a file for reading. Inspect the returned file, not the name: it may have been swapped.
    pub fn file(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
        Ok(self.resolve(name, flags)?.into())
    }

    /// Opens a directory; an empty name is this directory itself.
    pub fn directory(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        self.resolve(if name.is_empty() { b"." } else { name }, flags)
    }

    /// Lists a directory below this one; an empty path is this directory itself. Skips names that are not
    /// UTF-8, because neither kubelet nor logcd makes them.
    pub fn names(&self, path: &[u8]) -> io::Result<Vec<String>> {
        let mut directory = nix::dir::Dir::from_fd(self.directory(path)?)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    fn resolve(&self, name: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        let mut retries_left = RETRIES_MAX;
        loop {
            match openat2(&self.fd, OsStr::from_bytes(name), how) {
                // A rename above the file disturbed the lookup.
                Err(Errno::EAGAIN | Errno::EINTR) if retries_left > 0 => retries_left -= 1,
                opened => return Ok(opened?),
            }
        }
    }
}

/// Looks at `name` in the open directory without opening or following it.
pub fn status_at(directory: &OwnedFd, name: &OsStr) -> io::Result<FileStatus> {
    Ok(look(&fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?))
}

/// Looks at an opened file.
pub fn status_of(file: &File) -> io::Result<FileStatus> {
    Ok(look(&fstat(file)?))
}

fn look(stat: &FileStat) -> FileStatus {
    let kind = match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
        SFlag::S_IFREG => Kind::Regular,
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFLNK => Kind::Symlink,
        _ => Kind::Special,
    };
    let time = |s, ns| FileTime { s, ns: u32::try_from(ns).unwrap_or(0) };
    let ctime = time(stat.st_ctime, stat.st_ctime_nsec);
    let stamp = FileStamp {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime,
        racy: is_racy(ctime),
    };
    FileStatus {
        kind,
        stamp,
        meta: Meta {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime_s: u64::try_from(stat.st_mtime).unwrap_or(0),
        },
        links: stat.st_nlink,
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        owner: stat.st_uid,
    }
}

/// True if the last change is so recent that another one may have the same time. Uses the change time: unlike
/// the modification time, nobody can set it.
fn is_racy(ctime: FileTime) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ns = i128::from(now.as_secs()) * 1_000_000_000 + i128::from(now.subsec_nanos());
    now_ns - (i128::from(ctime.s) * 1_000_000_000 + i128::from(ctime.ns)) < TICK_NS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn fresh_times_are_racy_for_a_tick() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        std::fs::write(&path, "line\n").unwrap();
        let file = File::open(&path).unwrap();
        let at_once = status_of(&file).unwrap().stamp;
        let deadline = Instant::now() + Duration::from_secs(60);
        while status_of(&file).unwrap().stamp.racy {
            assert!(Instant::now() < deadline, "never believed");
        }
        // The first look may have come too late. A look that came in time must be marked as racy.
        let late = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
            > at_once.ctime.s.unsigned_abs() + 1;
        assert!(at_once.racy || late);
    }

    #[test]
    fn paths_outside_the_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().canonicalize().unwrap().join("log");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(directory.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("..", inner.join("up")).unwrap();
        let beneath = SafeDir::open(&inner).unwrap();
        for name in [&b"../secret"[..], b"up/secret", b"/etc/passwd", b"../log/../secret"] {
            assert!(beneath.file(name).is_err(), "{}", name.escape_ascii());
        }
    }
}
