//! The program under test as a child process.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn command(port: u16, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logsend"));
    command.env_clear().args(["--host", "127.0.0.1", "--port", &port.to_string()]).args(arguments);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Gives the whole input and waits for the end.
pub(crate) fn run(port: u16, arguments: &[&str], input: &[u8]) -> Output {
    finish(command(port, arguments).spawn().unwrap(), input)
}

pub(crate) fn finish(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn terminate(child: &Child) {
    signal(child, nix::sys::signal::Signal::SIGTERM);
}

pub(crate) fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// Reads the child's log until it says `what`, and returns all of it so far.
pub(crate) fn wait_for_log(child: &mut Child, what: &str) -> String {
    let stderr = child.stderr.as_mut().unwrap();
    let mut log = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&log).contains(what) {
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "no {what:?} in: {}", String::from_utf8_lossy(&log));
        log.push(byte[0]);
    }
    String::from_utf8_lossy(&log).into_owned()
}

/// For conditions that no event tells of, such as a file's content.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed().as_secs() < 60, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
