//! NO_COLOR and CLICOLOR_FORCE, on a real terminal and on a pipe.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use nix::pty::openpty;
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

const COLOUR: &str = "\u{1b}[";

/// Runs a program that logs a warning and ends: no logd listens on port 1.
fn logsend(variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodecrew"));
    command.args(["logsend", "--host", "127.0.0.1", "--port", "1", "--give-up", "0s"]).args(arguments);
    command.env_clear().envs(variables.iter().copied()).stdout(Stdio::null());
    let (read, write) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut &write, b"a line\n").unwrap();
    command.stdin(read);
    command
}

fn on_a_pipe(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = logsend(variables, arguments).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

fn on_a_terminal(variables: &[(&str, &str)]) -> String {
    let terminal = openpty(None, None).unwrap();
    let mut child = logsend(variables, &[]).stderr(terminal.slave).spawn().unwrap();
    child.wait().unwrap();
    let mut said = Vec::new();
    // The read ends with an error instead of end-of-file when the last process with the terminal is gone.
    let _ = File::from(terminal.master).read_to_end(&mut said);
    String::from_utf8(said).unwrap()
}

#[test]
fn colour_follows_the_variables() {
    let forced = ("CLICOLOR_FORCE", "1");
    let without = ("NO_COLOR", "1");
    for (said, is_coloured) in [
        (on_a_terminal(&[]), true),
        (on_a_terminal(&[without]), false),
        (on_a_terminal(&[("NO_COLOR", "")]), true),
        (on_a_terminal(&[without, forced]), false),
        (on_a_pipe(&[], &[]), false),
        (on_a_pipe(&[forced], &[]), true),
        (on_a_pipe(&[("CLICOLOR_FORCE", "0")], &[]), false),
        (on_a_pipe(&[without, forced], &[]), false),
        (on_a_pipe(&[forced], &["--log-format", "json"]), false),
        (on_a_pipe(&[forced], &["--nonsense"]), false),
    ] {
        assert!(!said.is_empty());
        assert_eq!(said.contains(COLOUR), is_coloured, "{said:?}");
    }
}
