//! The binary of queued, the queue server.

use std::process::ExitCode;

fn main() -> ExitCode {
    kit::exit::report("queued", queued::cli(std::env::args_os()))
}
