//! Finds the peers: among those that `tests/bench/peers` has fetched, else on the host.

use anyhow::Context;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const FETCHED: &str = "target/bench/peers";

/// Returns a path below the fetched files, if it exists.
pub fn fetched(below: &str) -> Option<PathBuf> {
    Path::new(FETCHED).join(below).canonicalize().ok()
}

fn directories() -> Vec<PathBuf> {
    let fetched = ["usr/sbin", "usr/bin", "bin", "sbin"].into_iter().filter_map(fetched);
    fetched.chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())).collect()
}

/// Returns a shell that finds the peers and their libraries.
pub fn shell() -> Command {
    let mut command = Command::new("sh");
    command.env("PATH", std::env::join_paths(directories()).unwrap_or_default());
    command.env("LD_LIBRARY_PATH", libraries());
    command
}

/// Returns the path of a program.
pub fn find(name: &str) -> Option<PathBuf> {
    directories()
        .into_iter()
        .find_map(|directory| Some(directory.join(name)).filter(|program| program.is_file()))
}

pub fn required(name: &str) -> anyhow::Result<PathBuf> {
    find(name).with_context(|| format!("{name} is not there; tests/bench/peers fetches it"))
}

/// Builds the command of a program, with the libraries that were fetched with it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if fetched("").is_some_and(|directory| program.starts_with(directory)) {
        command.env("LD_LIBRARY_PATH", libraries());
    }
    command
}

fn libraries() -> OsString {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = [format!("usr/lib/{machine}"), format!("lib/{machine}"), "usr/lib/syslog-ng".to_owned()];
    std::env::join_paths(places.iter().filter_map(|place| fetched(place))).unwrap_or_default()
}
