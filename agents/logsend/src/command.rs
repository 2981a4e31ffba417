//! Running a command on the caller's behalf: its output is the input, its signals and its end are passed on.

use crate::sink::Sink;
use crate::stream::Stream;
use kit::exit::{Exit, Fatal};
use kit::stop::Stop;
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use std::ffi::OsString;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::task::Poll;
use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;

/// What a supervisor may send and the command may want to hear.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// A started command.
pub(crate) struct Command {
    pid: Pid,
    streams: [Stream; 2],
    exit: Option<Exit>,
    child_ends: unix::Signal,
    signals: Vec<(unix::Signal, Signal)>,
}

impl Command {
    /// Starts `argv` with this process's stdin; an exit code of 126 or 127 tells, as in a shell, that it
    /// could not be run or found.
    pub(crate) fn start(argv: &[OsString], line_bytes_max: usize, tee: bool) -> Result<Command, Fatal> {
        let system = |e| Fatal::new(Exit::System, "cannot watch over a command").because(e);
        let Some((program, arguments)) = argv.split_first() else {
            return Err(Fatal::new(Exit::Usage, "no command"));
        };
        // Caught before the start, so that no signal and no end is missed.
        let child_ends = unix::signal(SignalKind::child()).map_err(system)?;
        let catch = |signal: Signal| Ok((unix::signal(SignalKind::from_raw(signal as i32))?, signal));
        let signals = FORWARDED.into_iter().map(catch).collect::<io::Result<_>>().map_err(system)?;

        let mut command = std::process::Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| {
            let code = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            Fatal::new(Exit::Command(code), format!("cannot run {}", program.display())).because(e)
        })?;
        let echo = |out: Box<dyn io::Write>| tee.then_some(out);
        let stream = |pipe: Option<OwnedFd>, echo| {
            let pipe = pipe.ok_or_else(|| io::Error::other("no pipe")).map_err(system)?;
            Stream::new(pipe, line_bytes_max, echo).map_err(system)
        };
        let out = stream(child.stdout.take().map(OwnedFd::from), echo(Box::new(io::stdout())))?;
        let err = stream(child.stderr.take().map(OwnedFd::from), echo(Box::new(io::stderr())))?;
        let pid = i32::try_from(child.id()).map_err(|e| system(io::Error::other(e)))?;
        Ok(Command { pid: Pid::from_raw(pid), streams: [out, err], exit: None, child_ends, signals })
    }

    /// Until the command has ended and everything that was written to its pipes is read. What it leaves
    /// behind may write on, as in `COMMAND | …`; once a stop is asked for, only the command is waited for.
    pub(crate) async fn feed(&mut self, sink: &impl Sink, stop: &Stop) {
        let Command { pid, streams: [out, err], exit, child_ends, signals } = self;
        let quit = CancellationToken::new();
        {
            let pumps = async { tokio::join!(out.pump(sink, &quit), err.pump(sink, &quit)) };
            tokio::pin!(pumps);
            let mut pumped = false;
            while !pumped || exit.is_none() {
                tokio::select! {
                    _ = &mut pumps, if !pumped => pumped = true,
                    _ = child_ends.recv() => *exit = exit.or(reap(*pid)),
                    signal = next(signals) => if exit.is_none() { forward(*pid, signal) },
                    () = stop.drain.cancelled(), if exit.is_some() && !quit.is_cancelled() => quit.cancel(),
                }
            }
        }
        if quit.is_cancelled() {
            // Its end may be known before its last words are read, and there is still time to deliver them.
            [out, err].into_iter().for_each(|stream| stream.take_the_rest(sink));
        }
    }

    /// Takes what is left to be had; a command that still runs is killed.
    pub(crate) fn close(&mut self, sink: &impl Sink) -> Exit {
        let exit = self.exit.unwrap_or_else(|| {
            tracing::warn!(pid = self.pid.as_raw(), "killing the command, it has not ended in time");
            let _ = signal::kill(self.pid, Signal::SIGKILL);
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

/// Collects every child that has ended, adopted ones too: as process 1 there is nobody else to do it.
fn reap(command: Pid) -> Option<Exit> {
    let mut exit = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return exit,
            Ok(status) if status.pid() == Some(command) => exit = exit_of(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return exit,
        }
    }
}

/// As a shell tells it: the code itself, or 128 and the signal's number.
fn exit_of(status: WaitStatus) -> Option<Exit> {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => return None,
    };
    Some(u8::try_from(code).map_or(Exit::Failure, Exit::Command))
}

fn forward(pid: Pid, signal: Signal) {
    // A Ctrl-C reaches the whole foreground group; sent again it would count as the second one.
    if matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && is_in_foreground() {
        return;
    }
    if let Err(error) = signal::kill(pid, signal) {
        tracing::warn!(%error, %signal, "cannot pass on the signal");
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
