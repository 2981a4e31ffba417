//! Starts an agent of the crew as a process in a directory of its own.

use std::path::Path;
use std::process::Command;
use trial::Process;

/// Starts the agent and returns when it reports that it is ready.
pub(crate) fn start(directory: &Path, name: &str, arguments: &[&str]) -> Process {
    Process::start_ready(&mut command(directory, name, arguments))
}

pub(crate) fn command(directory: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodecrew"));
    command.env_clear().current_dir(directory).arg(name).args(arguments).args(["--log-format", "json"]);
    command
}
