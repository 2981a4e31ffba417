//! The memory for items is bounded, however many of them wait.

use crate::daemon::{Queued, wait_until};
use crate::http::Http;
use serde_json::json;

const MIB: u64 = 1 << 20;

/// What the process has taken from the system, now and at most, in bytes.
fn resident(daemon: &Queued) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

#[test]
fn a_backlog_of_many_times_the_memory_lies_on_the_disk() {
    let bound = 16 * MIB;
    // For what is on its way: requests, groups, and a log file that is read.
    let slack = 32 * MIB;
    let flags = ["--max-memory", "16MiB", "--segment-size", "4MiB", "--durability", "none"];
    let mut daemon = Queued::start(&flags);
    let (empty, _) = resident(&daemon);
    let http = &mut daemon.http();
    let batch = ["x".repeat(16 * 1024).as_str(); 200].join("\n");
    let mut pushed = 0;
    while pushed < 12 * bound {
        http.post("/v1/queues/q/batch", &batch).expect(201);
        pushed += batch.len() as u64;
    }
    let (_, most) = resident(&daemon);
    assert!(most < empty + bound + slack, "{most} bytes for {pushed}, {empty} before");
    daemon.kill9();
    daemon.restart();
    let items = daemon.get("/v1/queues/q").json()["ready"].as_u64().unwrap();
    assert!(items * 16 * 1024 > 11 * bound, "{items} are left");
    let (_, most) = resident(&daemon);
    assert!(most < empty + bound + slack, "{most} bytes after the restart, {empty} before");
    // From the head in memory far into what is on the disk only.
    let (http, mut held) = (&mut daemon.http(), json!([]));
    for _ in 0..items / 2 / 50 {
        let wish = json!({"max": 50, "ack": held});
        let leased = http.post("/v1/queues/q/lease", wish.to_string()).expect(200).json();
        let items = leased["items"].as_array().unwrap();
        assert_eq!(items.len(), 50);
        held = items.iter().map(|item| json!({"id": item["id"], "token": item["token"]})).collect();
    }
    let (_, most) = resident(&daemon);
    assert!(most < empty + bound + slack, "{most} bytes after the work, {empty} before");
}

#[test]
fn bodies_beyond_the_memorys_bound_lie_on_the_disk_and_come_back_right() {
    let mut daemon = Queued::start(&["--max-memory", "300KiB", "--durability", "none"]);
    let http = &mut daemon.http();
    let body = |n: u64| format!("{n:06}{}", "x".repeat(2000));
    for n in 0..500 {
        http.post("/v1/queues/q/items", body(n)).expect(201);
    }
    wait_until("most bodies have left the memory", || daemon.metric("memory_bytes") < 400_000.0);
    let check = |http: &mut Http, from: u64, to: u64| {
        for n in from..to {
            let leased = http.post("/v1/queues/q/lease", "").expect(200).json();
            let item = &leased["items"][0];
            assert_eq!(item["body"], body(n).as_str(), "{n}");
            let held = json!({"id": item["id"], "token": item["token"]});
            http.post("/v1/queues/q/ack", held.to_string()).expect(200);
        }
    };
    check(http, 0, 200);
    daemon.kill9();
    daemon.restart();
    assert!(daemon.metric("memory_bytes") < 400_000.0);
    check(&mut daemon.http(), 200, 500);
}
