//! The program under test as a child process.

use crate::server::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn command(url: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_queuectl"));
    command.env_clear().env("QUEUE_URL", url).args(arguments);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `queuectl run -q q FLAGS -- sh -c SCRIPT`.
pub(crate) fn worker(server: &Server, flags: &[&str], script: &str) -> Child {
    let arguments = [&["run", "-q", "q"], flags, &["--", "sh", "-c", script]].concat();
    command(&server.url(), arguments).spawn().unwrap()
}

pub(crate) fn work(server: &Server, flags: &[&str], script: &str) -> Output {
    worker(server, flags, script).wait_with_output().unwrap()
}

/// Gives the whole input and waits for the end.
pub(crate) fn run(url: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = command(url, arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// For conditions that no event tells of, such as a file's content.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::yield_now();
    }
}
