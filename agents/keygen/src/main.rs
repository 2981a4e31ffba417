//! The sample workload.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("keygen", keygen::cli(std::env::args_os()))
}
