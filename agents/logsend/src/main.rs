//! The client of logd.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("logsend", logsend::cli(std::env::args_os()))
}
