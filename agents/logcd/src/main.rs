//! The `logcd` program. Everything is in the library, so that the crew's single binary has it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("logcd", logcd::cli(std::env::args_os()))
}
