//! The binary of rng, a sample service that answers with random bytes.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("rng", rng::cli(std::env::args_os()))
}
