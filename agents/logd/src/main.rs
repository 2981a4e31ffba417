//! The log daemon's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("logd", logd::cli(std::env::args_os()))
}
