//! False syncs: they succeed on a disk that takes no more changes, as ext4's do for some milliseconds after
//! it finds an error. The agents must not confirm anything as safe.

use super::Traced;
use crate::http::Http;
use crate::lines::{self, Senders};
use crate::logs::{self, Logs};
use crate::queue::{self, Queue};
use crate::read_only::is_not_ready;
use std::path::Path;
use std::process::Command;
use trial::Process;

/// Starts the agent under strace; only a change of the file `told_by` reveals that the disk takes no changes.
fn on_a_disk_that_takes_no_changes(agent: &str, directory: &Path, told_by: &Path) -> Command {
    let traced =
        Traced { calls: "ftruncate", by_path: true, inject: Some("ftruncate:error=EROFS".to_owned()) };
    traced.command(agent, directory, &[told_by.to_owned()])
}

#[test]
fn logd_gives_no_receipt_after_false_sync() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node_log");
    let lock = directory.path().join(".node_log.lock");
    let mut command = on_a_disk_that_takes_no_changes("logd", directory.path(), &lock);
    lines::configure(&mut command, &file, "always");
    let agent = Process::start(&mut command);
    assert!(Senders::default().send(lines::door(&agent)).is_err());
    is_not_ready(&agent, "admin");
    agent.kill9();
}

#[test]
fn queued_answers_nothing_in_unnamed_segment() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let second = data.join("0000000002.log");
    let mut command = on_a_disk_that_takes_no_changes("queued", directory.path(), &second);
    queue::configure(&mut command, &data, "always", "64KiB");
    let agent = Process::start_ready(&mut command);
    let queue = Queue::new("q");
    let mut http = Http::connect(queue::door(&agent)).unwrap();
    queue.make(&mut http).unwrap();
    std::thread::scope(|scope| {
        let pusher = scope.spawn(|| (0..100).try_for_each(|_| queue.push(&mut http, 3).map(drop)));
        is_not_ready(&agent, "http");
        agent.kill9();
        assert!(pusher.join().unwrap().is_err());
    });
}

#[test]
fn logcd_deletes_no_log_after_false_sync() {
    let directory = tempfile::tempdir().unwrap();
    let mut logs = Logs::below(directory.path());
    let lock = logs.out().join(".logcd.lock");
    let mut command = on_a_disk_that_takes_no_changes("logcd", directory.path(), &lock);
    logs::configure(&mut command, logs.directory(), logs.out());
    let agent = Process::start(&mut command);
    logs.write(1000);
    is_not_ready(&agent, "admin");
    // The agent retries.
    logs.write(1000);
    let mut http = Http::connect(agent.address("admin")).unwrap();
    let enough = http.metric("logcd_cycles_total{result=\"failed\"}") + 2;
    agent.wait_until("more failures", || http.metric("logcd_cycles_total{result=\"failed\"}") >= enough);
    assert_eq!(logs.gone(), 0);
    agent.kill9();
}
