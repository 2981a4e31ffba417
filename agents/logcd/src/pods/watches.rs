//! The kernel's reports (inotify) about container logs: names that appear in directories or leave them, and
//! the first write to a quiet log.

use crate::pods::place::{ContainerDir, PodDir};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// Reports only the first write, so that a busy log causes no further reports.
const FIRST_WRITE: AddWatchFlags = AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_ONESHOT);

const INSTANCES_EXHAUSTED: &str = "this user has no inotify instance left: raise fs.inotify.max_user_instances \
     (sysctl), or the limit on open files";

/// A watched directory or log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    Pods,
    Pod(PodDir),
    Container(ContainerDir),
    Log(ContainerDir, u64),
}

/// A change that the kernel reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Changed(Watched),
    /// The directory is gone, or the watch of a log has ended.
    Gone(Watched),
    /// Reports were lost.
    Overflow,
}

pub struct Watches {
    inotify: Inotify,
    watched: HashMap<WatchDescriptor, Watched>,
}

impl Watches {
    pub fn new() -> io::Result<Watches> {
        let inotify = match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
            Err(Errno::EMFILE) => return Err(io::Error::other(INSTANCES_EXHAUSTED)),
            inotify => inotify?,
        };
        Ok(Watches { inotify, watched: HashMap::new() })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches an open directory, even if its name leads to another one by now.
    pub fn directory(&mut self, fd: &OwnedFd, watched: Watched) -> io::Result<()> {
        self.add(fd.as_raw_fd(), NAMES, watched)
    }

    /// Watches an open log for its next write.
    pub fn log(&mut self, file: &File, watched: Watched) -> io::Result<()> {
        self.add(file.as_raw_fd(), FIRST_WRITE, watched)
    }

    fn add(&mut self, fd: i32, flags: AddWatchFlags, watched: Watched) -> io::Result<()> {
        let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
        let descriptor = self.inotify.add_watch(&path, flags)?;
        self.watched.insert(descriptor, watched);
        Ok(())
    }

    /// Returns the changes that were reported since the last call.
    pub fn take(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(changes),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    changes.push(Change::Overflow);
                    continue;
                }
                let Some(watched) = self.watched.get(&event.wd).cloned() else { continue };
                let is_gone = event.mask.intersects(
                    AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED,
                );
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.watched.remove(&event.wd);
                }
                let change = if is_gone { Change::Gone(watched) } else { Change::Changed(watched) };
                if changes.last() != Some(&change) {
                    changes.push(change);
                }
            }
        }
    }
}
