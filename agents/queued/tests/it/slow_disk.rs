//! A disk with slow syncs, simulated by strace: which requests wait for it, and which do not.

use crate::daemon::Queued;
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::NamedTempFile;
use trial::{signal, wait_until};

/// Detaches when it is dropped, and releases all delayed syncs.
struct SlowSyncs {
    strace: Child,
    /// Open as long as strace runs: if strace cannot report a new thread, it dies and delays no further
    /// syncs.
    _stderr: BufReader<ChildStderr>,
    trace: NamedTempFile,
}

impl SlowSyncs {
    /// Delays syncs by this many microseconds: of each thread's syncs, those that `when` selects.
    fn of(daemon: &Queued, microseconds: u32, when: &str) -> SlowSyncs {
        let trace = NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace.arg("-o").arg(trace.path()).args(["-f", "-p", &daemon.pid().to_string()]);
        strace.args(["-e", "trace=fdatasync"]);
        strace.args(["-e", &format!("inject=fdatasync:delay_exit={microseconds}:when={when}")]);
        let mut strace = strace.stderr(Stdio::piped()).spawn().expect("strace is installed");
        let mut stderr = BufReader::new(strace.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        SlowSyncs { strace, _stderr: stderr, trace }
    }

    /// Holds every sync from now on, until this is dropped.
    fn held(daemon: &Queued) -> SlowSyncs {
        SlowSyncs::of(daemon, 1_000_000_000, "1+")
    }

    fn wait_for_one(&self) {
        wait_until("a sync is under way", || {
            std::fs::read_to_string(self.trace.path()).unwrap().contains("(DELAYED)")
        });
    }
}

impl Drop for SlowSyncs {
    fn drop(&mut self) {
        signal(&self.strace, Signal::SIGINT);
        let _ = self.strace.wait();
    }
}

#[test]
#[ignore = "needs strace: just test-programs"]
fn slow_disk_batching_never_waits_in_vain() {
    // Data in memory, so that only the chosen syncs are slow.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let daemon = Queued::start(&["--data", directory.path().to_str().unwrap()]);
    let mut clients: Vec<_> = (0..8).map(|_| daemon.http()).collect();
    clients[0].post("/v1/queues/q/items", "first").expect(201);
    let _slow = SlowSyncs::of(&daemon, 3000, "2+3");
    let mut pushed = 1;
    for round in 0..60 {
        // All clients push at once, then fewer push again.
        let back = 8 >> (round % 4);
        for group in [8, back] {
            for client in &mut clients[..group] {
                client.send("POST", "/v1/queues/q/items", "", b"x").unwrap();
            }
            for client in &mut clients[..group] {
                client.receive().unwrap().expect(201);
            }
            pushed += group;
        }
    }
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], pushed);
}

#[test]
#[ignore = "needs strace: just test-programs"]
fn slow_disk_does_not_delay_other_requests() {
    let daemon = Queued::start(&[]);
    let mut pusher = daemon.http();
    let known = SlowSyncs::of(&daemon, 50_000, "1+");
    pusher.post("/v1/queues/q/items", "the disk is known to be slow").expect(201);
    drop(known);
    for body in ["second", "third"] {
        let held = SlowSyncs::held(&daemon);
        let commits = daemon.metric("commits_total");
        pusher.send("POST", "/v1/queues/q/items", "", body.as_bytes()).unwrap();
        held.wait_for_one();
        for path in ["/live", "/ready", "/"] {
            daemon.get(path).expect(200);
        }
        assert!((daemon.metric("commits_total") - commits).abs() < 0.5, "it was still syncing");
        drop(held);
        pusher.receive().unwrap().expect(201);
    }
}
