//! The binary of kvd, the key/value server.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("kvd", kvd::cli(std::env::args_os()))
}
