//! The program under test as a child process.

use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use trial::{signal, with_input};

pub(crate) fn command(port: u16, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logsend"));
    command.env_clear().args(["--host", "127.0.0.1", "--port", &port.to_string()]).args(arguments);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Writes the whole input and waits for the end.
pub(crate) fn run(port: u16, arguments: &[&str], input: &[u8]) -> Output {
    with_input(command(port, arguments).spawn().unwrap(), input)
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn terminate(child: &Child) {
    signal(child, Signal::SIGTERM);
}

/// Reads the child's log until it contains `what`, and returns everything that was read.
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
