//! The sample service.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("rng", rng::cli(std::env::args_os()))
}
