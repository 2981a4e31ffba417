//! queuectl, and keygen under a link of that name: both programs of a Job's image, at the size of one.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let argv = std::env::args_os();
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new("keygen")) {
        kit::exit::report("keygen", keygen::cli(argv))
    } else {
        kit::exit::report("queuectl", queuectl::cli(argv))
    }
}
