//! Ten thousand clients, clients that disconnect at every step, and a process without free file descriptors.

use crate::daemon::{Queued, Setup};
use crate::http::Http;
use nix::sys::resource::Resource;
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use trial::{connect_from, descriptors_for, wait_until};

const MIB: u64 = 1 << 20;
const CROWD: usize = 10_000;

/// Pushes, leases and acks this many items; each answer must be the right one.
fn cycles(http: &mut Http, queue: &str, count: usize) {
    for number in 0..count {
        http.post(&format!("/v1/queues/{queue}/items"), number.to_string()).expect(201);
        let leased = http.post(&format!("/v1/queues/{queue}/lease"), "").expect(200).json();
        let item = &leased["items"][0];
        assert_eq!(item["body"], number.to_string());
        let held = json!({"id": item["id"], "token": item["token"]});
        http.post(&format!("/v1/queues/{queue}/ack"), held.to_string()).expect(200);
    }
}

#[test]
fn ten_thousand_waiting_workers_stay_within_memory() {
    let crowd = descriptors_for(CROWD);
    let daemon = Queued::start(&["--max-connections", "10100", "--line", "none", "--durability", "none"]);
    let http = &mut daemon.http();
    // One worker holds the last item while all the others wait.
    http.post("/v1/queues/crowd/items", "the last").expect(201);
    let last = http.post("/v1/queues/crowd/lease", r#"{"lease_ms":3600000}"#).expect(200).json();
    let empty = daemon.memory_bytes("VmRSS");
    let action = r#"{"wait_ms":300000}"#;
    let request = format!(
        "POST /v1/queues/crowd/lease HTTP/1.1\r\nHost: q\r\nContent-Length: {}\r\n\r\n{action}",
        action.len()
    );
    let waiting: Vec<Http> = (0..crowd)
        .map(|number| {
            let source = format!("127.0.2.{}", 1 + number / 2_500);
            let mut stream = connect_from(&source, daemon.http_address());
            stream.write_all(request.as_bytes()).unwrap();
            Http::on(stream)
        })
        .collect();
    wait_until("all wait", || http.get("/v1/queues/crowd").json()["waiting"] == crowd);
    cycles(http, "other", 200);
    let most = daemon.memory_bytes("VmHWM");
    let each = (most - empty) / crowd as u64;
    println!("{crowd} workers: {empty} bytes before, {most} at most, {each} each");
    assert!(
        most < empty + crowd as u64 * 12 * 1024 + 16 * MIB,
        "{most} bytes, {empty} before: {each} a worker"
    );
    let held = json!({"id": last["items"][0]["id"], "token": last["items"][0]["token"]});
    http.post("/v1/queues/crowd/ack", held.to_string()).expect(200);
    for mut worker in waiting {
        let answer = worker.receive().unwrap().expect(200).json();
        assert_eq!((&answer["done"], &answer["items"]), (&json!(true), &json!([])));
    }
}

#[test]
fn broken_connections_leak_no_item_or_descriptor() {
    let daemon = Queued::start(&["--max-connections", "20", "--durability", "none"]);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/batch", "a\nb\nc").expect(201);
    http.call("PUT", "/v1/queues/empty", "").expect(201);
    cycles(http, "other", 1);
    let descriptors = daemon.descriptors();
    let whole = "POST /v1/queues/pushed/items HTTP/1.1\r\nHost: q\r\nContent-Length: 7\r\n\r\n";
    let wait = r#"{"wait_ms":300000}"#;
    let waits = format!(
        "POST /v1/queues/empty/lease HTTP/1.1\r\nHost: q\r\nContent-Length: {}\r\n\r\n{wait}",
        wait.len()
    );
    let chunked = "POST /v1/queues/q/batch HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal";
    let steps = [
        String::new(),
        "POST /v1/que".to_owned(),
        whole.to_owned(),
        format!("{whole}half"),
        format!("{whole}a whole"),
        waits,
        chunked.to_owned(),
        "GET /v1/events HTTP/1.1\r\nHost: q\r\n\r\n".to_owned(),
    ];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..100 {
                    let mut stream = TcpStream::connect(daemon.http_address()).unwrap();
                    stream.write_all(steps[round % steps.len()].as_bytes()).unwrap();
                    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)
                        .unwrap();
                }
            });
        }
        cycles(http, "other", 100);
    });
    wait_until("nobody waits any more", || http.get("/v1/queues/empty").json()["waiting"] == 0);
    wait_until("no descriptor is left open", || daemon.descriptors() <= descriptors);
    let queue = http.get("/v1/queues/q").expect(200).json();
    assert_eq!((&queue["ready"], &queue["leases"]), (&json!(3), &json!(0)), "half a push is none");
    let pushed = http.get("/v1/queues/pushed/items?limit=1000").expect(200).json();
    assert!(pushed["items"].as_array().unwrap().iter().all(|item| item["body"] == "a whole"));
}

#[test]
fn exhausted_descriptors_are_survived_without_spinning() {
    let mut daemon = Queued::start(&["--segment-bytes", "64KiB"]);
    let [mut pusher, mut watch] = [daemon.http(), daemon.http()];
    for http in [&mut pusher, &mut watch] {
        cycles(http, "other", 1);
    }
    daemon.limit(Resource::RLIMIT_NOFILE, daemon.descriptors() as u64);
    let waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(daemon.http_address()).unwrap()).collect();
    wait_until("nothing can be accepted", || daemon.says("accept_failed"));
    let enough = AtomicBool::new(false);
    let kept = std::thread::scope(|scope| {
        // A log file cannot be opened either: a push is then refused, or waits for its answer.
        let pushing = scope.spawn(|| {
            let mut kept = 0;
            while !enough.load(Ordering::Relaxed) {
                match pusher.post("/v1/queues/q/items", "x".repeat(1_000)).status {
                    201 => kept += 1,
                    status => assert_eq!(status, 507),
                }
            }
            kept
        });
        wait_until("the log cannot go on", || watch.get("/ready").status == 503);
        let (began, before) = (Instant::now(), daemon.cpu_seconds());
        wait_until("a second has passed", || {
            began.elapsed().as_secs() >= 1 && watch.get("/live").status == 200
        });
        let (took, used) = (began.elapsed().as_secs_f64(), daemon.cpu_seconds() - before);
        println!("without descriptors {used:.2} s of processor time in {took:.2} s");
        assert!(used < took / 2.0, "it spins: {used} s of processor time in {took} s");
        daemon.limit(Resource::RLIMIT_NOFILE, 1_000);
        wait_until("it is ready again", || watch.get("/ready").status == 200);
        enough.store(true, Ordering::Relaxed);
        pushing.join().unwrap()
    });
    drop(waiting);
    println!("{kept} pushes were answered for");
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], kept);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], kept);
}

#[test]
fn low_descriptor_limit_leaves_room_for_probes() {
    let setup = Setup::new(&["--segment-bytes", "64KiB", "--admin", "127.0.0.1:0", "--durability", "none"]);
    let command = trial::with_descriptors(256, &setup.command());
    let daemon = setup.start_with(command);
    let said = daemon.wait_for("connections_reduced");
    assert_eq!(said["allowed"], 64, "128 for both doors");
    let http = &mut daemon.http();
    let connections: Vec<_> = [daemon.http_address(), daemon.line_address()]
        .into_iter()
        .flat_map(|address| (0..150).map(move |_| TcpStream::connect(address).unwrap()))
        .collect();
    let admin = daemon.address("admin");
    assert_eq!(Http::connect(admin).get("/ready").status, 200);
    cycles(http, "q", 300);
    assert!(!daemon.says("accept_failed"));
    drop(connections);
}
