//! Child processes, each in a process group of its own: their start, their signals and their end. None of
//! them outlives this process.

use kit::exit::{Exit, Fatal};
use kit::lifecycle::guard::{FORWARDED, Guard, Reach};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::oneshot;

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    Code(i32),
    Signal(Signal),
}

/// All children that run now. Clones share them.
#[derive(Clone)]
pub(crate) struct Children {
    running: Arc<Mutex<HashMap<Pid, RunningChild>>>,
    guard: Guard,
}

struct RunningChild {
    ended: oneshot::Sender<CommandEnd>,
    /// True after a SIGTERM or SIGINT from anywhere.
    told_to_stop: Arc<AtomicBool>,
}

/// One running child.
pub(crate) struct Child {
    pid: Pid,
    told_to_stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<CommandEnd>,
}

impl Children {
    /// Starts the supervision. From now on signals to this process reach every child, and every child that
    /// ends is collected (adopted ones too, as process 1 must). Children that are left are killed when this
    /// process ends.
    pub(crate) fn start(children_max: usize) -> Result<Children, Fatal> {
        let system = |e| Fatal::new(Exit::System, "cannot supervise commands").because(e);
        let guard = Guard::start(children_max).map_err(system)?;
        let children = Children { running: Arc::default(), guard };
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

    /// Starts `command`. The caller takes its pipes from the returned process.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, std::process::Child)> {
        // A group of its own, so that everything that it starts is stopped with it.
        command.process_group(0);
        // Locked during the start, so that `reap` finds a child that ends at once.
        let mut running = self.running();
        let process = self.guard.spawn(command, Reach::Group)?;
        let pid = Pid::from_raw(i32::try_from(process.id()).map_err(io::Error::other)?);
        let (sender, ended) = oneshot::channel();
        let told_to_stop = Arc::<AtomicBool>::default();
        running.insert(pid, RunningChild { ended: sender, told_to_stop: told_to_stop.clone() });
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
            let status = match self.guard.collect() {
                Ok(Some(status)) => status,
                Ok(None) => return,
                Err(error) => {
                    return tracing::error!(
                        event = "command_wait_failed",
                        %error,
                        "cannot collect the commands that have ended"
                    );
                }
            };
            let (pid, ended) = match status {
                WaitStatus::Exited(pid, code) => (pid, CommandEnd::Code(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, CommandEnd::Signal(signal)),
                _ => continue,
            };
            if let Some(running) = self.running().remove(&pid) {
                let _ = running.ended.send(ended);
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Pid, RunningChild>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Child {
    /// Waits for the end of the child. Cancel-safe; must not be awaited again after it has returned.
    pub(crate) async fn ended(&mut self) -> CommandEnd {
        // The sender lives until the end is known.
        (&mut self.ended).await.unwrap_or(CommandEnd::Signal(Signal::SIGKILL))
    }

    /// Sends SIGTERM to the whole group, unless the signal that ends this process has reached it already.
    pub(crate) fn ask_to_stop(&self) {
        if !self.told_to_stop.swap(true, Ordering::Relaxed) {
            send(self.pid, Signal::SIGTERM);
        }
    }

    /// True after `ask_to_stop`, or after a signal to this process that was passed on.
    pub(crate) fn was_told_to_stop(&self) -> bool {
        self.told_to_stop.load(Ordering::Relaxed)
    }

    /// Kills what is left of the group.
    pub(crate) fn kill(&self) {
        send(self.pid, Signal::SIGKILL);
    }
}

fn send(group: Pid, signal: Signal) {
    match killpg(group, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(
            event = "signal_forward_failed",
            %error,
            %signal,
            "cannot forward the signal to the command"
        ),
    }
}
