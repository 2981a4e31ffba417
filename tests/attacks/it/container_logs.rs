//! logcd that archives container logs as fast as possible, and the lines in its archives.

use crate::binaries::binary;
use crate::disk::run;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use trial::kubelet::{Seen, archives, counted, lines_of_all, whole_lines_of_all};

pub fn configure(command: &mut Command, pods: &Path, out: &Path) {
    command.arg("--pods").arg(pods).arg("--pods-out").arg(out).args([
        "--dir=none",
        "--min-free=1",
        "--publish-within=20ms",
        "--admin=127.0.0.1:0",
        "--log-format=json",
    ]);
}

pub fn command(pods: &Path, out: &Path) -> Command {
    let mut command = Command::new(binary("logcd"));
    configure(&mut command, pods, out);
    command
}

/// Counts the lines of all archives, each of which must be readable by GNU tar.
pub fn all_lines(out: &Path) -> Result<BTreeMap<Seen, u64>, String> {
    all_are_tar(out);
    counted(lines_of_all(out))
}

/// Counts the whole lines of all archives: those that are as they were written.
pub fn all_whole_lines(out: &Path) -> BTreeMap<Seen, u64> {
    all_are_tar(out);
    whole_lines_of_all(out)
}

fn all_are_tar(out: &Path) {
    for archive in archives(out) {
        // After the end of the tar, there may be members of a commit that did not happen.
        run(Command::new("sh")
            .arg("-c")
            .arg("gzip -dcq < \"$0\" 2> /dev/null | tar -tf - > /dev/null")
            .arg(&archive));
    }
}
