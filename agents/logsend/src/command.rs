//! Runs a command on the caller's behalf. Its output is the input, signals and its exit code are passed on,
//! and it never outlives this process.

use crate::sink::Sink;
use crate::stream::LineStream;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::guard::{FORWARDED, Guard, Reach};
use kit::lifecycle::stop::Stop;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use std::ffi::OsString;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::task::Poll;
use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;

/// The variable that names the spool of this process, which has one user at a time.
const SPOOL_VARIABLE: &str = "LOGSEND_SPOOL";

/// A started command.
pub(crate) struct RunningCommand {
    pid: Pid,
    reach: Reach,
    guard: Guard,
    streams: [LineStream; 2],
    exit: Option<Exit>,
    child_ends: unix::Signal,
    signals: Vec<(unix::Signal, Signal)>,
}

impl RunningCommand {
    /// Starts `argv` with this process's stdin. Exit codes 126 (not executable) and 127 (not found) are those
    /// of a shell.
    pub(crate) fn start(
        argv: &[OsString],
        line_bytes_max: usize,
        tee: bool,
    ) -> Result<RunningCommand, Fatal> {
        let system = |e| Fatal::new(Exit::System, "cannot supervise a command").because(e);
        let Some((program, arguments)) = argv.split_first() else {
            return Err(Fatal::new(Exit::Usage, "no command"));
        };
        // Listen before the start, so that no signal and no end is missed.
        let child_ends = unix::signal(SignalKind::child()).map_err(system)?;
        let catch = |signal: Signal| Ok((unix::signal(SignalKind::from_raw(signal as i32))?, signal));
        let signals = FORWARDED.into_iter().map(catch).collect::<io::Result<_>>().map_err(system)?;

        let guard = Guard::start(1).map_err(system)?;
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A logsend within the command could not use the spool, since this process holds it.
        command.env_remove(SPOOL_VARIABLE);
        let reach = reach();
        if reach == Reach::Group {
            command.process_group(0);
        }
        let mut child = guard.spawn(&mut command, reach).map_err(|e| {
            let code = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            Fatal::new(Exit::Command(code), format!("cannot run {}", program.display())).because(e)
        })?;
        let echo = |out: Box<dyn io::Write>| tee.then_some(out);
        let stream = |pipe: Option<OwnedFd>, echo| {
            let pipe = pipe.ok_or_else(|| io::Error::other("no pipe")).map_err(system)?;
            LineStream::new(pipe, line_bytes_max, echo).map_err(system)
        };
        let out = stream(child.stdout.take().map(OwnedFd::from), echo(Box::new(io::stdout())))?;
        let err = stream(child.stderr.take().map(OwnedFd::from), echo(Box::new(io::stderr())))?;
        let pid = i32::try_from(child.id()).map_err(|e| system(io::Error::other(e)))?;
        let (pid, streams) = (Pid::from_raw(pid), [out, err]);
        Ok(RunningCommand { pid, reach, guard, streams, exit: None, child_ends, signals })
    }

    /// Returns when the command has ended and its pipes are read to the end. Processes that it left running
    /// may continue to write, as in `COMMAND | …`. After a signal to stop, only the command itself is waited
    /// for.
    pub(crate) async fn feed(&mut self, sink: &impl Sink, stop: &Stop) {
        let RunningCommand { pid, reach, guard, streams: [out, err], exit, child_ends, signals } = self;
        let quit = CancellationToken::new();
        {
            let pumps = async { tokio::join!(out.pump(sink, &quit), err.pump(sink, &quit)) };
            tokio::pin!(pumps);
            let mut pumped = false;
            while !pumped || exit.is_none() {
                tokio::select! {
                    _ = &mut pumps, if !pumped => pumped = true,
                    _ = child_ends.recv() => *exit = exit.or(reap(guard, *pid)),
                    signal = next(signals) => if exit.is_none() { forward(*pid, *reach, signal) },
                    () = stop.drain.cancelled(), if exit.is_some() && !quit.is_cancelled() => quit.cancel(),
                }
            }
        }
        if quit.is_cancelled() {
            // The end may be noticed before the last output is read, and there is still time to deliver it.
            [out, err].into_iter().for_each(|stream| stream.take_the_rest(sink));
        }
    }

    /// Kills the command if it still runs, and takes what is left in its pipes.
    pub(crate) fn close(&mut self, sink: &impl Sink) -> Exit {
        let exit = self.exit.unwrap_or_else(|| {
            tracing::warn!(
                event = "command_killed",
                pid = self.pid.as_raw(),
                "killed the command: it did not end in time"
            );
            let _ = send(self.pid, self.reach, Signal::SIGKILL);
            self.guard.retire(self.pid);
            loop {
                match waitpid(self.pid, None) {
                    Ok(status) => break exit_of(status).unwrap_or(Exit::Failure),
                    Err(Errno::EINTR) => {}
                    Err(_) => break Exit::Failure,
                }
            }
        });
        for stream in &mut self.streams {
            stream.take_the_rest(sink);
        }
        exit
    }
}

/// Collects every child that has ended. Returns the exit code of the command if it was among them.
fn reap(guard: &Guard, command: Pid) -> Option<Exit> {
    let mut exit = None;
    while let Ok(Some(status)) = guard.collect() {
        if status.pid() == Some(command) {
            exit = exit_of(status);
        }
    }
    exit
}

/// Decides which processes are stopped. A command in its own group is stopped with everything that it
/// started. At a terminal it stays in the group of this process. In another group it could not read the
/// terminal, and Ctrl-C would not reach it.
fn reach() -> Reach {
    if std::fs::File::open("/dev/tty").is_ok() { Reach::Process } else { Reach::Group }
}

/// Maps the end of a command as a shell does: its exit code, or 128 plus the number of the signal.
fn exit_of(status: WaitStatus) -> Option<Exit> {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => return None,
    };
    Some(u8::try_from(code).map_or(Exit::Failure, Exit::Command))
}

fn forward(pid: Pid, reach: Reach, signal: Signal) {
    // A Ctrl-C reaches the whole foreground group; sent again, it would count as the second one.
    if reach == Reach::Process && matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && is_in_foreground() {
        return;
    }
    if let Err(error) = send(pid, reach, signal) {
        tracing::warn!(
            event = "signal_forward_failed",
            %error,
            %signal,
            "cannot forward the signal to the command"
        );
    }
}

fn send(pid: Pid, reach: Reach, signal: Signal) -> nix::Result<()> {
    match reach {
        Reach::Process => kill(pid, signal),
        Reach::Group => killpg(pid, signal),
    }
}

fn is_in_foreground() -> bool {
    std::fs::File::open("/dev/tty").is_ok_and(|tty| tcgetpgrp(tty) == Ok(getpgrp()))
}

async fn next(signals: &mut [(unix::Signal, Signal)]) -> Signal {
    poll_fn(|context| {
        let arrived = signals.iter_mut().find_map(|(stream, signal)| {
            let ready = stream.poll_recv(context).is_ready();
            ready.then_some(*signal)
        });
        arrived.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
