//! Fault injection with strace: each system call on an agent's files fails, or is the agent's last.
//!
//! A scenario runs once to count the calls of each kind, then once for each call and fault. strace counts by
//! thread: the Nth call of each thread is hit.

mod false_syncs;
mod kvd;
mod logcd;
mod logd;
mod pods;
mod queued;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use trial::Process;

/// Calls tried for each kind and fault, spread evenly. With `ROUNDS` set, all of them are tried.
const SAMPLE: usize = 2;

/// Scenarios that run at the same time: an agent that waits before a retry leaves the processor to others.
const SIDE_BY_SIDE: usize = 4;

/// Calls of an agent that can fail because of its disk, and the faults to inject. The flag is true if strace
/// filters by path: such calls are made on other files, too, and those must not be hit.
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

/// Calls that strace watches, and the fault that it injects.
#[derive(Debug)]
struct Traced {
    calls: &'static str,
    by_path: bool,
    inject: Option<String>,
}

impl Traced {
    /// Builds the command of the agent under strace, without its flags. strace writes its report into
    /// `directory`.
    fn command(&self, agent: &str, directory: &Path, paths: &[PathBuf]) -> Command {
        let mut command = Command::new("strace");
        // Detached as a grandchild, so that the child is the agent itself and can be killed.
        command.args(["-D", "-f", "-qq", "-o"]).arg(report(directory));
        command.args(["-e", "signal=none", "-e", &format!("trace={}", self.calls)]);
        for path in paths.iter().filter(|_| self.by_path) {
            command.arg("-P").arg(path);
        }
        if let Some(inject) = &self.inject {
            command.args(["-e", &format!("inject={inject}")]);
        }
        command.arg(crate::binaries::binary(agent));
        command
    }
}

fn report(directory: &Path) -> PathBuf {
    directory.join("strace")
}

/// Returns the highest number of calls of one kind that a single thread made.
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

/// Chooses the calls to hit: all of them, or a sample that is spread evenly.
fn chosen(count: usize) -> Vec<usize> {
    if std::env::var_os("ROUNDS").is_some() || count <= SAMPLE {
        return (1..=count).collect();
    }
    (0..SAMPLE).map(|n| 1 + n * (count - 1) / (SAMPLE - 1)).collect()
}

/// Runs `act` on each element, several at a time, and prints the one that fails.
fn side_by_side<T: Sync + std::fmt::Debug, R: Send>(each: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let act = &act;
    let some = |chunk: &[T]| -> Vec<R> {
        std::thread::scope(|scope| {
            let running: Vec<_> = chunk.iter().map(|one| (one, scope.spawn(move || act(one)))).collect();
            let end = |(one, thread): (&T, std::thread::ScopedJoinHandle<'_, R>)| {
                thread.join().unwrap_or_else(|panic| {
                    eprintln!("failed with {one:?}");
                    std::panic::resume_unwind(panic)
                })
            };
            running.into_iter().map(end).collect()
        })
    };
    each.chunks(SIDE_BY_SIDE).flat_map(some).collect()
}

/// Runs the scenario once for each fault, each time in its own directory. The scenario checks the promises
/// itself.
fn under_each_fault(agent: &str, scenario: impl Fn(&Path, &Traced) + Sync) {
    let run = |traced: &Traced| {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        scenario(directory.path(), traced);
        directory
    };
    let undisturbed = FAULTS.map(|(calls, by_path, _)| Traced { calls, by_path, inject: None });
    let counts = side_by_side(&undisturbed, |traced| count(run(traced).path()));
    let mut injections = Vec::new();
    for ((calls, by_path, faults), count) in FAULTS.into_iter().zip(&counts) {
        for fault in faults {
            let inject = |call| format!("{calls}:{fault}:when={call}");
            let traced = |call| Traced { calls, by_path, inject: Some(inject(call)) };
            injections.extend(chosen(*count).into_iter().map(traced));
        }
    }
    let hit = side_by_side(&injections, |traced| was_hit(run(traced).path()));
    let (tried, hit) = (hit.len(), hit.into_iter().filter(|hit| *hit).count());
    // Threads share the work differently each time, so now and then no thread reaches its Nth call. Kills
    // leave no trace.
    assert!(hit * 4 > tried, "only {hit} of {tried} faults were met");
    let counts: Vec<_> = undisturbed.iter().map(|traced| traced.calls).zip(counts).collect();
    eprintln!("{agent}: {hit} of {tried} faults met, calls of each kind {counts:?}");
}

/// True if the agent became ready. If it ended instead, its message must name a file below `directory`.
fn ready_or_clear(agent: &Process, directory: &Path) -> bool {
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
