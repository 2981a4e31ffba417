//! The memory for items is bounded, whatever the number of waiting items.

use crate::daemon::Queued;
use crate::http::Http;
use nix::sys::signal::Signal;
use serde_json::json;
use trial::wait_until;

const MIB: u64 = 1 << 20;

#[test]
fn large_backlog_stays_on_the_disk() {
    let bound = 16 * MIB;
    // Room for data in transit: requests, groups, and a log file that is read.
    let slack = 32 * MIB;
    let flags = ["--max-memory", "16MiB", "--segment-bytes", "4MiB", "--durability", "none"];
    let mut daemon = Queued::start(&flags);
    let empty = daemon.memory_bytes("VmRSS");
    let http = &mut daemon.http();
    let batch = ["x".repeat(16 * 1024).as_str(); 200].join("\n");
    let mut pushed = 0;
    while pushed < 12 * bound {
        http.post("/v1/queues/q/batch", &batch).expect(201);
        pushed += batch.len() as u64;
    }
    let most = daemon.memory_bytes("VmHWM");
    assert!(most < empty + bound + slack, "{most} bytes for {pushed}, {empty} before");
    daemon.kill9();
    daemon.restart();
    let items = daemon.get("/v1/queues/q").json()["ready"].as_u64().unwrap();
    assert!(items * 16 * 1024 > 11 * bound, "{items} are left");
    let most = daemon.memory_bytes("VmHWM");
    assert!(most < empty + bound + slack, "{most} bytes after the restart, {empty} before");
    // Reads from the head in memory far into the items that are on the disk only.
    let (http, mut held) = (&mut daemon.http(), json!([]));
    for _ in 0..items / 2 / 50 {
        let action = json!({"max": 50, "ack": held});
        let leased = http.post("/v1/queues/q/lease", action.to_string()).expect(200).json();
        let items = leased["items"].as_array().unwrap();
        assert_eq!(items.len(), 50);
        held = items.iter().map(|item| json!({"id": item["id"], "token": item["token"]})).collect();
    }
    let most = daemon.memory_bytes("VmHWM");
    assert!(most < empty + bound + slack, "{most} bytes after the work, {empty} before");
}

#[test]
fn moved_bodies_stay_within_memory_bound() {
    let daemon = Queued::start(&["--max-memory", "300KiB", "--durability", "none"]);
    let http = &mut daemon.http();
    let settings = r#"{"max_attempts":1,"dead_letter_queue":"dead"}"#;
    http.call("PUT", "/v1/queues/q", settings).expect(201);
    for _ in 0..400 {
        http.post("/v1/queues/q/items", "x".repeat(5000)).expect(201);
    }
    for _ in 0..200 {
        let leased = http.post("/v1/queues/q/lease", "").expect(200).json();
        let item = &leased["items"][0];
        let held = json!({"id": item["id"], "token": item["token"]});
        http.post("/v1/queues/q/nack", held.to_string()).expect(200);
    }
    let items = http.get("/v1/queues/q/items?limit=1000&cut=0").expect(200).json()["items"].clone();
    let ids: Vec<_> = items.as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
    let moved = http.post("/v1/queues/q/items/move", json!({"to": "other", "ids": ids}).to_string());
    assert_eq!(moved.expect(200).json()["count"], 200);
    wait_until("their bodies have left the memory", || daemon.metric("memory_bytes") < 400_000.0);
    let other = http.get("/v1/queues/other/items?limit=200").expect(200).json();
    assert!(other["items"].as_array().unwrap().iter().all(|item| item["body"] == "x".repeat(5000)));
}

#[test]
fn bodies_beyond_memory_are_read_from_disk() {
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

#[test]
fn request_bodies_stay_within_memory_bound() {
    let flags = ["--max-memory", "16MiB", "--segment-bytes", "4MiB", "--durability", "none"];
    let daemon = Queued::start(&flags);
    let empty = daemon.memory_bytes("VmRSS");
    let batch = ["x".repeat(16 * 1024).as_str(); 250].join("\n");
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| daemon.post("/v1/queues/q/batch", &batch).expect(201));
        }
    });
    let most = daemon.memory_bytes("VmHWM");
    let sent = 40 * batch.len() as u64;
    assert!(most < empty + 64 * MIB, "{most} bytes for {sent} that came at once, {empty} before");
}

#[test]
fn answer_is_bounded_like_a_request() {
    let daemon = Queued::start(&["--segment-bytes", "4MiB", "--durability", "none"]);
    let http = &mut daemon.http();
    let body = "x".repeat(1 << 20);
    for _ in 0..20 {
        http.post("/v1/queues/q/items", &body).expect(201);
    }
    http.post("/v1/queues/q/items", "small").expect(201);
    let count = |answer: &serde_json::Value| answer["items"].as_array().unwrap().len();
    let page = http.get("/v1/queues/q/items?limit=1000").expect(200).json();
    assert_eq!(count(&page), 8);
    let last = page["items"][7]["id"].as_str().unwrap();
    let rest = http.get(&format!("/v1/queues/q/items?limit=1000&after={last}")).expect(200).json();
    assert_eq!(count(&rest), 8);
    let leases = [8, 8, 5].map(|expected| {
        let leased = http.post("/v1/queues/q/lease", r#"{"max":1000}"#).expect(200).json();
        (count(&leased), expected)
    });
    assert!(leases.iter().all(|(count, expected)| count == expected), "{leases:?}");
}

#[test]
fn unread_answers_stay_within_memory_bound() {
    let flags = ["--max-memory", "16MiB", "--segment-bytes", "4MiB", "--durability", "none"];
    let daemon = Queued::start(&flags);
    let http = &mut daemon.http();
    let body = "x".repeat(1 << 20);
    for (queue, count) in [("q", 8), ("w", 8), ("l", 8 * 20)] {
        for _ in 0..count {
            http.post(&format!("/v1/queues/{queue}/items"), &body).expect(201);
        }
    }
    http.post("/v1/queues/q/items", "small").expect(201);
    http.post("/memq/server/queues/w/dequeue", "").expect(200);
    let before = daemon.memory_bytes("VmRSS");
    // 40 × 8 MiB of listings, and the same of leases and of dequeued messages. Their clients read nothing,
    // and all are connected at once.
    daemon.freeze();
    let mut silent = Vec::new();
    for _ in 0..40 {
        for (method, path, action) in [
            ("GET", "/v1/queues/q/items?limit=8", ""),
            ("POST", "/v1/queues/l/lease", r#"{"max":8,"lease_ms":100}"#),
            ("POST", "/memq/server/queues/w/dequeue", ""),
        ] {
            let mut client = daemon.http();
            client.send(method, path, "", action.as_bytes()).unwrap();
            silent.push(client);
        }
    }
    daemon.signal(Signal::SIGCONT);
    // Clients that read their answers are served, in the worst case by being asked to retry.
    for _ in 0..50 {
        http.post("/v1/queues/other/items", "y").expect(201);
        http.post("/v1/queues/other/lease", "").expect(200);
    }
    let refused = wait_for_refusal(&daemon);
    assert!(refused.contains("too many long answers are still being read"), "{refused}");
    let most = daemon.memory_bytes("VmHWM");
    println!("{before} bytes before, {most} at most");
    // The sum of the room for answers, the answers that are being made, and the limit on the items
    // themselves.
    assert!(most < before + (64 + 16 + 32) * MIB, "{most} bytes, {before} before");
    drop(silent);
    wait_until("the room is free again", || daemon.get("/v1/queues/q/items?limit=8").status == 200);
    let queue = |name: &str| daemon.get(&format!("/v1/queues/{name}")).expect(200).json();
    assert_eq!(queue("q")["backlog"], 9, "what was not handed out is still there");
    assert!(queue("w")["backlog"].as_u64().unwrap() + queue("w")["acked"].as_u64().unwrap() == 8);
}

fn wait_for_refusal(daemon: &Queued) -> String {
    let mut error = String::new();
    wait_until("there is no room for another long answer", || {
        let answer = daemon.get("/v1/queues/q/items?limit=8");
        error = answer.text().chars().take(200).collect();
        answer.status == 503
    });
    error
}
