//! The program under test as a child process.

use crate::server::Server;
use std::ffi::OsStr;
use std::process::{Child, Command, Output, Stdio};
use trial::with_input;

pub(crate) fn command(url: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_queuectl"));
    command.env_clear().env("QUEUE_URL", url).args(arguments);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts `queuectl run -q q FLAGS -- sh -c SCRIPT`.
pub(crate) fn worker(server: &Server, flags: &[&str], script: &str) -> Child {
    let arguments = [&["run", "-q", "q"], flags, &["--", "sh", "-c", script]].concat();
    command(&server.url(), arguments).spawn().unwrap()
}

pub(crate) fn work(server: &Server, flags: &[&str], script: &str) -> Output {
    worker(server, flags, script).wait_with_output().unwrap()
}

/// Writes the whole input and waits for the end.
pub(crate) fn run(url: &str, arguments: &[&str], input: &[u8]) -> Output {
    with_input(command(url, arguments).spawn().unwrap(), input)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
