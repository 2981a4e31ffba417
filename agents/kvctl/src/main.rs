//! The binary of kvctl, the client of kvd.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("kvctl", kvctl::cli(std::env::args_os()))
}
