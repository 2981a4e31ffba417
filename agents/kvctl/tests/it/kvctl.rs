//! The program under test as a child process.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use trial::with_input;

/// Builds the command with a server, in an otherwise empty environment.
pub(crate) fn command(url: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvctl"));
    command.env_clear().env("KVD_URL", url).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program with this input, and waits for its end.
pub(crate) fn run(url: &str, arguments: &[&str], input: &[u8]) -> Output {
    with_input(command(url, arguments).spawn().unwrap(), input)
}

/// Returns stdout of a run that must succeed.
#[track_caller]
pub(crate) fn says(url: &str, arguments: &[&str]) -> String {
    let output = run(url, arguments, b"");
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the exit code and the message of a run that must fail.
#[track_caller]
pub(crate) fn fails(url: &str, arguments: &[&str]) -> (i32, String) {
    let output = run(url, arguments, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("kvctl: ") && output.stdout.is_empty(), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    (output.status.code().unwrap(), said)
}
