//! Ends commands together with the process that runs them, even if SIGKILL ends it.
//!
//! The guard is a small child process that holds one end of a socket. Each command announces itself on the
//! other end before it runs. When the parent is gone, however it ended, the guard reads the end of the
//! stream. It kills the commands that were announced and not retired, and exits.
//!
//! A process that left its command's group (setsid, setpgid) is not reached. If the parent is process 1 of a
//! container, the kernel ends everything in the container with it, and the guard has no work left.

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, setsid};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Signals that a supervisor may send and that the commands may want to hear.
pub const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Extra room: an ended command can still be on the list while the next one is announced.
const SLACK: usize = 16;
/// The bound on the notes that wait for room in the socket. Only commands that were announced before need one.
const UNSENT_MAX: usize = 4096;
/// A note is its kind, a process id, and the number of the start.
const NOTE_BYTES: usize = 9;

/// The processes that are killed with the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The command, which shares its group with others.
    Process,
    /// The command's own process group.
    Group,
}

/// A message to the guard about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    /// A process announces itself, just before it runs the command. The number identifies this start.
    Started(Reach, Pid, u32),
    Retired(Pid),
    /// The start with this number failed after its announcement. Only the guard knows the process id, which
    /// may soon belong to another process.
    NotRun(u32),
}

/// The guard process as its parent sees it. Clones share it.
#[derive(Clone, Debug)]
pub struct Guard(Arc<GuardProcess>);

/// Ends and collects the guard process when it is dropped.
#[derive(Debug)]
struct GuardProcess {
    socket: Option<OwnedFd>,
    pid: Pid,
    starts: AtomicU32,
    /// Notes that the socket had no room for, because the guard got no processor time. Commands that start
    /// meanwhile are not announced, so these notes concern commands from before only.
    unsent: Mutex<VecDeque<Note>>,
}

impl Guard {
    /// Starts the guard process for at most `commands_max` commands at a time.
    pub fn start(commands_max: usize) -> io::Result<Guard> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // Allocated here, since the child must not allocate after a fork.
        let list = Vec::with_capacity(commands_max + SLACK);
        #[allow(unsafe_code, reason = "a process that outlives this one can only be forked")]
        // SAFETY: the child makes system calls and writes to the list within its capacity. It neither
        // allocates nor takes a lock, and it never returns.
        let forked = unsafe { fork() }?;
        match forked {
            ForkResult::Parent { child } => Ok(Guard(Arc::new(GuardProcess {
                socket: Some(ours),
                pid: child,
                starts: AtomicU32::new(0),
                unsent: Mutex::new(VecDeque::new()),
            }))),
            ForkResult::Child => stand_guard(theirs.as_raw_fd(), list),
        }
    }

    /// Starts `command`, once. It announces itself before it runs. For `Reach::Group` it must get a group of
    /// its own.
    pub fn spawn(&self, command: &mut Command, reach: Reach) -> io::Result<Child> {
        let start = self.0.starts.fetch_add(1, Ordering::Relaxed);
        if !self.0.send_unsent() {
            // Sent out of order, an old note could take this command off the list.
            tracing::warn!(
                event = "guard_lost",
                "the guard process is not responding: commands may outlive this process if it is killed"
            );
            return command.spawn();
        }
        let guard = self.0.clone();
        let announce = move || {
            // Without a guard the command runs unguarded, which `collect` reports.
            let _ = guard.send(Note::Started(reach, getpid(), start), MsgFlags::MSG_DONTWAIT);
            Ok(())
        };
        #[allow(unsafe_code, reason = "only the command itself can announce itself before it runs")]
        // SAFETY: the closure makes two system calls and touches nothing that another thread may hold.
        unsafe {
            command.pre_exec(announce);
        }
        command.spawn().inspect_err(|_| self.0.tell(Note::NotRun(start)))
    }

    /// Takes a command off the list. Must be called before the command is collected: afterwards its process
    /// id may belong to another process.
    pub fn retire(&self, pid: Pid) {
        self.0.tell(Note::Retired(pid));
    }

    /// Collects one child that has ended, if there is one, and retires it. Children that this process adopted
    /// are collected too, which process 1 must do.
    pub fn collect(&self) -> Result<Option<WaitStatus>, Errno> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            let pid = match waitid(Id::All, look) {
                Ok(status) => status.pid(),
                Err(Errno::ECHILD) => None,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error),
            };
            let Some(pid) = pid else { return Ok(None) };
            if pid == self.0.pid {
                tracing::warn!(
                    event = "guard_lost",
                    "the guard process has ended: commands may outlive this process if it is killed"
                );
            } else {
                self.retire(pid);
            }
            return waitpid(pid, Some(WaitPidFlag::WNOHANG)).map(Some);
        }
    }
}

impl GuardProcess {
    /// Sends a note without waiting; keeps it for later if the socket has no room.
    fn tell(&self, note: Note) {
        let mut unsent = self.unsent();
        if unsent.len() < UNSENT_MAX {
            unsent.push_back(note);
        }
        drop(unsent);
        self.send_unsent();
    }

    /// Sends the notes that were kept. False if some are left.
    fn send_unsent(&self) -> bool {
        let mut unsent = self.unsent();
        while let Some(note) = unsent.front() {
            if self.send(*note, MsgFlags::MSG_DONTWAIT) == Err(Errno::EAGAIN) {
                return false;
            }
            unsent.pop_front();
        }
        true
    }

    /// Sends a note, which takes one system call and no lock.
    fn send(&self, note: Note, flags: MsgFlags) -> Result<(), Errno> {
        let Some(socket) = &self.socket else { return Ok(()) };
        send(socket.as_raw_fd(), &note.encode(), MsgFlags::MSG_NOSIGNAL | flags).map(|_| ())
    }

    fn unsent(&self) -> MutexGuard<'_, VecDeque<Note>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GuardProcess {
    fn drop(&mut self) {
        // Without the notes that are left, the guard would kill processes that have reused the old ids.
        let unsent = std::mem::take(&mut *self.unsent());
        for note in unsent {
            let _ = self.send(note, MsgFlags::empty());
        }
        // The guard ends with the socket. Not every process 1 would collect it.
        drop(self.socket.take());
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }
}

impl Note {
    fn encode(self) -> [u8; NOTE_BYTES] {
        let (kind, pid, start) = match self {
            Note::Started(Reach::Process, pid, start) => (b'p', pid.as_raw(), start),
            Note::Started(Reach::Group, pid, start) => (b'g', pid.as_raw(), start),
            Note::Retired(pid) => (b'r', pid.as_raw(), 0),
            Note::NotRun(start) => (b'n', 0, start),
        };
        let [a, b, c, d] = pid.to_le_bytes();
        let [e, f, g, h] = start.to_le_bytes();
        [kind, a, b, c, d, e, f, g, h]
    }

    fn decode([kind, a, b, c, d, e, f, g, h]: [u8; NOTE_BYTES]) -> Option<Note> {
        let pid = Pid::from_raw(i32::from_le_bytes([a, b, c, d]));
        let start = u32::from_le_bytes([e, f, g, h]);
        match kind {
            b'p' => Some(Note::Started(Reach::Process, pid, start)),
            b'g' => Some(Note::Started(Reach::Group, pid, start)),
            b'r' => Some(Note::Retired(pid)),
            b'n' => Some(Note::NotRun(start)),
            _ => None,
        }
    }
}

/// The whole life of the guard process: system calls only.
fn stand_guard(socket: RawFd, mut list: Vec<(Reach, Pid, u32)>) -> ! {
    // Signals to the parent's group or from its terminal are meant for the parent, which may need time to
    // end.
    let _ = SigSet::all().thread_block();
    let _ = setsid();
    let _ = prctl::set_name(c"guard");
    close_all_but(socket);
    loop {
        let mut note = [0; NOTE_BYTES];
        match recv(socket, &mut note, MsgFlags::empty()) {
            Ok(NOTE_BYTES) => match Note::decode(note) {
                Some(Note::Started(reach, pid, start)) if list.len() < list.capacity() => {
                    list.push((reach, pid, start));
                }
                Some(Note::Retired(pid)) => list.retain(|(_, listed, _)| *listed != pid),
                Some(Note::NotRun(start)) => list.retain(|(_, _, listed)| *listed != start),
                _ => {}
            },
            Err(Errno::EINTR) => {}
            // The parent is gone.
            _ => break,
        }
    }
    for (reach, pid, _) in &list {
        let _ = match reach {
            Reach::Process => kill(*pid, Signal::SIGKILL),
            Reach::Group => killpg(*pid, Signal::SIGKILL),
        };
    }
    #[allow(unsafe_code, reason = "an ordinary exit would run the parent's exit handlers")]
    // SAFETY: _exit only ends this process.
    unsafe {
        libc::_exit(0)
    }
}

/// Closes every other descriptor. Otherwise readers of the parent's output would not see its end, and the
/// guard would hold the parent's end of the socket itself.
fn close_all_but(socket: RawFd) {
    /// The number of descriptors that are closed one at a time on kernels before 5.9.
    const DESCRIPTORS_MAX: RawFd = 4096;
    let close_range = |first: RawFd, last: libc::c_uint| {
        #[allow(unsafe_code, reason = "no crate in use wraps close_range")]
        // SAFETY: nothing in this process uses these descriptors any more.
        unsafe {
            libc::syscall(libc::SYS_close_range, first, last, 0)
        }
    };
    let below = libc::c_uint::try_from(socket - 1).unwrap_or_default();
    if close_range(0, below) == 0 && close_range(socket + 1, libc::c_uint::MAX) == 0 {
        return;
    }
    for descriptor in (0..DESCRIPTORS_MAX).filter(|descriptor| *descriptor != socket) {
        let _ = nix::unistd::close(descriptor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    /// A shell that starts a grandchild, prints its process id, and waits. Both hold stdout open.
    fn family(guard: &Guard, reach: Reach) -> (Child, BufReader<std::process::ChildStdout>, Pid) {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(Stdio::piped());
        if reach == Reach::Group {
            command.process_group(0);
        }
        let mut child = guard.spawn(&mut command, reach).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        (child, out, Pid::from_raw(line.trim().parse().unwrap()))
    }

    fn signal_of(child: &mut Child) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap())
    }

    #[test]
    fn grandchildren_end_with_the_parent() {
        let guard = Guard::start(1).unwrap();
        let (mut child, mut out, _) = family(&guard, Reach::Group);
        // The kernel closes the socket in the same way when the parent is killed.
        drop(guard);
        assert_eq!(signal_of(&mut child), Some(libc::SIGKILL));
        let mut rest = String::new();
        assert_eq!(out.read_line(&mut rest).unwrap(), 0, "the grandchild is gone too");
    }

    #[test]
    fn command_in_a_shared_group_ends_alone() {
        let guard = Guard::start(1).unwrap();
        let (mut child, _out, grandchild) = family(&guard, Reach::Process);
        drop(guard);
        assert_eq!(signal_of(&mut child), Some(libc::SIGKILL));
        kill(grandchild, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn retired_commands_are_left_alone() {
        let guard = Guard::start(2).unwrap();
        let (mut retired, _out, grandchild) = family(&guard, Reach::Group);
        let (mut listed, _, _) = family(&guard, Reach::Group);
        guard.retire(Pid::from_raw(i32::try_from(retired.id()).unwrap()));
        drop(guard);
        assert_eq!(signal_of(&mut listed), Some(libc::SIGKILL));
        assert!(retired.try_wait().unwrap().is_none());
        kill(grandchild, Signal::SIGKILL).unwrap();
        retired.wait().unwrap();
    }

    #[test]
    fn note_waits_for_room_in_the_socket() {
        let guard = Guard::start(2).unwrap();
        let (mut retired, _out, grandchild) = family(&guard, Reach::Group);
        let (mut listed, _, _) = family(&guard, Reach::Group);
        kill(guard.0.pid, Signal::SIGSTOP).unwrap();
        while guard.0.send(Note::NotRun(u32::MAX), MsgFlags::MSG_DONTWAIT).is_ok() {}
        guard.retire(Pid::from_raw(i32::try_from(retired.id()).unwrap()));
        kill(guard.0.pid, Signal::SIGCONT).unwrap();
        drop(guard);
        assert_eq!(signal_of(&mut listed), Some(libc::SIGKILL));
        assert!(retired.try_wait().unwrap().is_none());
        kill(grandchild, Signal::SIGKILL).unwrap();
        retired.wait().unwrap();
    }

    /// Process ids left on the list may belong to other processes when the guard kills them at the end. In
    /// this test they would also fill the list.
    #[test]
    fn commands_that_could_not_run_are_taken_off_the_list() {
        let guard = Guard::start(1).unwrap();
        for _ in 0..=SLACK + 1 {
            let mut missing = Command::new("/nowhere/command");
            guard.spawn(missing.process_group(0), Reach::Group).unwrap_err();
        }
        let (mut child, _out, _) = family(&guard, Reach::Group);
        drop(guard);
        assert_eq!(signal_of(&mut child), Some(libc::SIGKILL));
    }

    #[test]
    fn notes_survive_the_socket() {
        let pid = Pid::from_raw(4_194_304);
        let started = [Reach::Process, Reach::Group].map(|reach| Note::Started(reach, pid, 7));
        for note in started.into_iter().chain([Note::Retired(pid), Note::NotRun(u32::MAX)]) {
            assert_eq!(Note::decode(note.encode()), Some(note));
        }
        assert_eq!(Note::decode([0; NOTE_BYTES]), None);
    }
}
