//! On a full disk pushes get 507, acks, leases and reads continue, and the server recovers by itself.

use crate::daemon::Queued;
use crate::http::Http;
use nix::sys::resource::Resource;
use serde_json::json;
use std::process::Command;
use trial::{Process, wait_until};

/// With this limit no new log file can be made, but existing ones can be written. A full disk has the same
/// effect on prepared files.
const JUST_TOO_SMALL: u64 = 256 * 1024 - 1;

fn fill(http: &mut Http) -> u64 {
    let body = "x".repeat(4000);
    for pushed in 0.. {
        let answer = http.post("/v1/queues/q/items", &body);
        if answer.status == 507 {
            assert_eq!(answer.error(), "no_space");
            return pushed;
        }
        answer.expect(201);
    }
    unreachable!()
}

fn work_off(http: &mut Http, count: u64) {
    for _ in 0..count {
        let leased = http.post("/v1/queues/q/lease", "").expect(200).json();
        let item = &leased["items"][0];
        let held = json!({"id": item["id"], "token": item["token"]});
        http.post("/v1/queues/q/ack", held.to_string()).expect(200);
    }
}

#[test]
fn full_disk_refuses_pushes_only() {
    let mut daemon = Queued::start(&[]);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/items", "first").expect(201);
    wait_until("the next file is ready", || daemon.setup.path("data/spare").exists());
    daemon.limit(Resource::RLIMIT_FSIZE, JUST_TOO_SMALL);
    let pushed = fill(http) + 1;
    assert!(pushed > 60, "{pushed} items before the disk was full");
    assert_eq!(daemon.metric("no_space"), 1.0);
    assert_eq!(http.get("/v1/queues/q").expect(200).json()["ready"], pushed);
    assert_eq!(daemon.get("/ready").status, 200, "workers must still find it");
    work_off(http, pushed - 5);
    // The acked items have freed a file.
    wait_until("there is room again", || http.post("/v1/queues/q/items", "again").status == 201);
    daemon.kill9();
    daemon.restart();
    let queue = daemon.get("/v1/queues/q").json();
    assert_eq!((queue["ready"].as_u64(), queue["acked"].as_u64()), (Some(6), Some(pushed - 5)));
}

#[test]
fn pushes_resume_when_there_is_room() {
    let daemon = Queued::start(&[]);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/items", "first").expect(201);
    wait_until("the next file is ready", || daemon.setup.path("data/spare").exists());
    daemon.limit(Resource::RLIMIT_FSIZE, JUST_TOO_SMALL);
    fill(http);
    daemon.limit(Resource::RLIMIT_FSIZE, nix::libc::RLIM_INFINITY);
    wait_until("there is room again", || daemon.metric("no_space") == 0.0);
    daemon.wait_for("segment_allocated");
    http.post("/v1/queues/q/items", "x".repeat(4000)).expect(201);
}

#[test]
fn unwritable_log_is_not_ready_and_loses_nothing() {
    let mut daemon = Queued::start(&[]);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/items", "first").expect(201);
    daemon.limit(Resource::RLIMIT_FSIZE, 64);
    let mut waiting = daemon.http();
    waiting.send("POST", "/v1/queues/q/items", "", b"second").unwrap();
    wait_until("it says that it is not ready", || daemon.get("/ready").status == 503);
    assert_eq!(http.post("/v1/queues/q/items", "third").expect(507).error(), "no_space");
    assert!(daemon.metric("write_errors_total") > 0.0);
    daemon.limit(Resource::RLIMIT_FSIZE, nix::libc::RLIM_INFINITY);
    waiting.receive().unwrap().expect(201);
    wait_until("it is ready again", || daemon.get("/ready").status == 200);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], 2);
}

/// The head's two places are written in turn, so one of two starts would write beyond the limit.
#[test]
fn start_needs_no_room_for_the_head() {
    let daemon = Queued::start(&[]);
    daemon.post("/v1/queues/q/items", "first").expect(201);
    daemon.kill9();
    for _ in 0..2 {
        let command = daemon.setup.command();
        let mut limited = Command::new("/bin/sh");
        limited.args(["-c", "ulimit -S -f 1 && exec \"$0\" \"$@\""]);
        limited.arg(command.get_program()).args(command.get_args());
        limited.env_clear().current_dir(command.get_current_dir().unwrap());
        let process = Process::start(&mut limited);
        let mut http = Http::connect(process.address("http"));
        assert_eq!(http.get("/v1/queues/q").expect(200).json()["ready"], 1);
        process.limit(Resource::RLIMIT_FSIZE, nix::libc::RLIM_INFINITY);
        wait_until("it is ready", || http.get("/ready").status == 200);
    }
}

#[test]
fn memory_bound_acts_as_the_disk() {
    let daemon = Queued::start(&["--data", "memory", "--max-memory", "100KiB"]);
    let http = &mut daemon.http();
    let pushed = fill(http);
    assert!((20..=25).contains(&pushed), "{pushed}");
    work_off(http, 1);
    http.post("/v1/queues/q/items", "again").expect(201);
}
