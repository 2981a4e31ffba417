//! Child processes, each in a process group of its own: their start, their signals, their end.

use kit::exit::{Exit, Fatal};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::oneshot;

/// What a supervisor may send and the commands may want to hear.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(Signal),
}

/// All that run now. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Children {
    running: Arc<Mutex<HashMap<Pid, Running>>>,
}

struct Running {
    ended: oneshot::Sender<Ended>,
    /// By SIGTERM or SIGINT, from whomever.
    told_to_stop: Arc<AtomicBool>,
}

/// One of them.
pub(crate) struct Child {
    pid: Pid,
    told_to_stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<Ended>,
}

impl Children {
    /// From here on this process's signals reach every child, and no child is left as a zombie: as process 1
    /// that holds for adopted ones, too.
    pub(crate) fn start() -> Result<Children, Fatal> {
        let children = Children::default();
        let system = |e| Fatal::new(Exit::System, "cannot watch over commands").because(e);
        let mut child_ends = unix::signal(SignalKind::child()).map_err(system)?;
        let reaping = children.clone();
        tokio::spawn(async move {
            while child_ends.recv().await.is_some() {
                reaping.reap();
            }
        });
        for signal in FORWARDED {
            let mut arrivals = unix::signal(SignalKind::from_raw(signal as i32)).map_err(system)?;
            let forwarding = children.clone();
            tokio::spawn(async move {
                while arrivals.recv().await.is_some() {
                    forwarding.signal_all(signal);
                }
            });
        }
        Ok(children)
    }

    /// Starts `command`; its pipes are the caller's to take from the returned process.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, std::process::Child)> {
        // Its own group, so that what it starts is stopped with it.
        command.process_group(0);
        // Held over the start: an end that comes at once finds its place.
        let mut running = self.running();
        let process = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(process.id()).map_err(io::Error::other)?);
        let (sender, ended) = oneshot::channel();
        let told_to_stop = Arc::<AtomicBool>::default();
        running.insert(pid, Running { ended: sender, told_to_stop: told_to_stop.clone() });
        Ok((Child { pid, told_to_stop, ended }, process))
    }

    pub(crate) fn signal_all(&self, signal: Signal) {
        for (pid, running) in self.running().iter() {
            if matches!(signal, Signal::SIGTERM | Signal::SIGINT) {
                running.told_to_stop.store(true, Ordering::Relaxed);
            }
            send(*pid, signal);
        }
    }

    fn reap(&self) {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(error) => return tracing::error!(%error, "cannot wait for commands"),
            };
            let (pid, ended) = match status {
                WaitStatus::Exited(pid, code) => (pid, Ended::Code(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, Ended::Signal(signal)),
                _ => continue,
            };
            if let Some(running) = self.running().remove(&pid) {
                let _ = running.ended.send(ended);
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Pid, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    /// Cancel-safe; to be awaited until it returns once.
    pub(crate) async fn ended(&mut self) -> Ended {
        // The sender is kept until the end is known.
        (&mut self.ended).await.unwrap_or(Ended::Signal(Signal::SIGKILL))
    }

    /// Asks the whole group to end, unless the signal that ends this process has reached it already.
    pub(crate) fn ask_to_stop(&self) {
        if !self.told_to_stop.swap(true, Ordering::Relaxed) {
            send(self.pid, Signal::SIGTERM);
        }
    }

    /// Whether it was, by whatever reached this process or by `ask_to_stop`.
    pub(crate) fn was_told_to_stop(&self) -> bool {
        self.told_to_stop.load(Ordering::Relaxed)
    }

    /// Ends what is left of the group.
    pub(crate) fn kill(&self) {
        send(self.pid, Signal::SIGKILL);
    }
}

fn send(group: Pid, signal: Signal) {
    match killpg(group, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(%error, %signal, "cannot pass on the signal"),
    }
}
