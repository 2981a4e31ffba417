//! Each system call that touches an agent's files fails, or is the agent's last; strace sees to that.
//!
//! A scenario is run once to count the calls of each kind, then once for each of them and each fault. Calls are counted by
//! thread, as strace does: the Nth of each thread is hit.

mod logd;
mod queued;

use crate::agent::Agent;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of each call and fault so many are tried, spread evenly, unless `ROUNDS` asks for all of them.
const SAMPLE: usize = 2;

/// The calls of an agent that can fail because of its disk, and how. By path: they are made for other things, too, and only
/// those on the agent's files are meant.
const FAULTS: [(&str, bool, &[&str]); 10] = [
    ("write", true, &["error=ENOSPC", "error=EIO", "error=EDQUOT", "signal=KILL"]),
    ("pwrite64", false, &["error=ENOSPC", "error=EIO", "error=EDQUOT", "signal=KILL"]),
    ("copy_file_range", false, &["error=ENOSPC", "error=EIO", "signal=KILL"]),
    ("fsync", false, &["error=EIO", "error=ENOSPC", "signal=KILL"]),
    ("fdatasync", false, &["error=EIO", "error=ENOSPC", "signal=KILL"]),
    ("rename,renameat,renameat2", false, &["error=EIO", "error=EROFS", "error=ENOSPC", "signal=KILL"]),
    ("unlink,unlinkat", false, &["error=EIO", "error=EROFS", "signal=KILL"]),
    ("openat,openat2", true, &["error=EIO", "error=EROFS", "error=ENOSPC", "signal=KILL"]),
    ("ftruncate", false, &["error=EIO", "error=EROFS", "signal=KILL"]),
    ("fallocate", false, &["error=ENOSPC", "error=EDQUOT", "signal=KILL"]),
];

/// What strace is to look at, and to do.
struct Traced {
    calls: &'static str,
    by_path: bool,
    inject: Option<String>,
}

impl Traced {
    /// The agent under strace; its flags are still to come. Beside `directory`'s files is room for what strace saw.
    fn command(&self, agent: &str, directory: &Path, paths: &[PathBuf]) -> Command {
        let mut command = Command::new("strace");
        // As a grandchild, so that the child is the agent itself and can be killed.
        command.args(["-D", "-f", "-qq", "-o"]).arg(report(directory));
        command.args(["-e", "signal=none", "-e", &format!("trace={}", self.calls)]);
        for path in paths.iter().filter(|_| self.by_path) {
            command.arg("-P").arg(path);
        }
        if let Some(inject) = &self.inject {
            command.args(["-e", &format!("inject={inject}")]);
        }
        command.arg(crate::agent::binary(agent));
        command
    }
}

fn report(directory: &Path) -> PathBuf {
    directory.join("strace")
}

/// How many calls of one kind a single thread made at most.
fn count(directory: &Path) -> usize {
    let report = std::fs::read_to_string(report(directory)).unwrap();
    let mut counts = BTreeMap::<&str, usize>::new();
    for line in report.lines().filter(|line| line.contains('(') && !line.contains("resumed>")) {
        *counts.entry(line.split('(').next().unwrap()).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

fn was_hit(directory: &Path) -> bool {
    let report = std::fs::read_to_string(report(directory)).unwrap();
    report.contains("(INJECTED)")
}

/// Which of `count` calls are hit: all of them, or some that are spread evenly.
fn chosen(count: usize) -> Vec<usize> {
    if std::env::var_os("ROUNDS").is_some() || count <= SAMPLE {
        return (1..=count).collect();
    }
    (0..SAMPLE).map(|n| 1 + n * (count - 1) / (SAMPLE - 1)).collect()
}

/// Runs the scenario, which checks the promises itself, once for each fault, in a directory of its own.
fn under_each_fault(agent: &str, scenario: impl Fn(&Path, &Traced)) {
    let run = |calls, by_path, inject| {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        scenario(directory.path(), &Traced { calls, by_path, inject });
        directory
    };
    let (mut tried, mut hit, mut counts) = (0, 0, Vec::new());
    for (calls, by_path, faults) in FAULTS {
        let most = count(run(calls, by_path, None).path());
        counts.push((calls, most));
        for fault in faults {
            for call in chosen(most) {
                let inject = format!("{calls}:{fault}:when={call}");
                eprintln!("{agent}: {inject}");
                let directory = run(calls, by_path, Some(inject));
                tried += 1;
                hit += usize::from(was_hit(directory.path()));
            }
        }
    }
    // Threads share the work differently each time, so that now and then none comes to its Nth call; and kills leave no trace.
    assert!(hit * 4 > tried, "only {hit} of {tried} faults were met");
    eprintln!("{agent}: {hit} of {tried} faults met, calls of each kind {counts:?}");
}

/// Ready, or it ended and said why in words that name a file below `directory`.
fn ready_or_clear(agent: &mut Agent, directory: &Path) -> bool {
    if agent.becomes_ready() {
        return true;
    }
    let status = agent.join();
    if status.code().is_some() {
        let said = format!("{:?}", agent.last_events());
        assert!(said.contains(&directory.display().to_string()), "{status}, without naming the file: {said}");
        assert_ne!(status.code(), Some(101), "it panicked: {said}");
    }
    false
}
