//! Watches the data directory: notices at once if it or a file in it was removed, moved or replaced. Sleeps
//! until then.

use super::{Engine, Shared};
use crate::commit::phase::Event;
use crate::log::directory::LOCK;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Excludes writes to files: an event for each push would cost more than the push.
const DIRECTORY_EVENTS: AddWatchFlags = AddWatchFlags::IN_MOVE_SELF.union(AddWatchFlags::IN_DELETE_SELF);
/// A removed or renamed file may be the segment that is being written. queued itself causes such an event
/// once per segment.
const DATA_EVENTS: AddWatchFlags =
    DIRECTORY_EVENTS.union(AddWatchFlags::IN_DELETE).union(AddWatchFlags::IN_MOVED_FROM);
/// The lock file is open here, so removing it does not delete it: only its link count changes.
const LOCK_EVENTS: AddWatchFlags = DIRECTORY_EVENTS.union(AddWatchFlags::IN_ATTRIB);

struct Watch {
    inotify: Inotify,
    readable: AsyncFd<OwnedFd>,
}

impl Watch {
    fn new(directory: &Path) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let real = directory.canonicalize()?;
        inotify.add_watch(&real.join(LOCK), LOCK_EVENTS)?;
        inotify.add_watch(&real, DATA_EVENTS)?;
        for path in real.ancestors().skip(1) {
            // Some parent directories may be unreadable. Changes there are noticed with the next write.
            let _ = inotify.add_watch(path, DIRECTORY_EVENTS);
        }
        let readable = inotify.as_fd().try_clone_to_owned()?;
        // SAFETY: `AsyncFd` owns the descriptor, and keeps it open until it is dropped itself.
        #[allow(unsafe_code, reason = "tokio cannot know that a descriptor stays open; an owned one does")]
        let readable = unsafe { AsyncFd::register_with_interest(readable, Interest::READABLE) }?;
        Ok(Watch { inotify, readable })
    }

    async fn event(&self) -> io::Result<()> {
        let mut ready = self.readable.readable().await?;
        let _ = self.inotify.read_events();
        ready.clear_ready();
        Ok(())
    }
}

impl Shared {
    /// Makes the commit path check that the log is still there.
    fn suspect(&self) {
        self.lock().tail.on(Event::Suspected);
        self.commit.notify_one();
    }
}

impl Engine {
    /// Watches the log's directory. Must be spawned once, on the runtime of the doors.
    pub(super) async fn keep_watch(self) {
        let Some(directory) = self.0.log.directory() else { return };
        let watch = match Watch::new(directory) {
            Ok(watch) => watch,
            Err(error) => {
                return tracing::warn!(
                    event = "watch_failed",
                    %error,
                    "cannot watch the data directory; its removal is noticed with the next write"
                );
            }
        };
        // The directory may have been removed before it was watched.
        self.0.suspect();
        while watch.event().await.is_ok() {
            self.0.suspect();
        }
    }
}
