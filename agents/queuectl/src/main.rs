//! The client and worker of queued.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("queuectl", queuectl::cli(std::env::args_os()))
}
