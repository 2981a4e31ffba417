//! The server's verdict on a queue: pending, working, then drained, and all waiting workers are notified.

use crate::daemon::Queued;
use crate::http::Http;
use serde_json::Value;
use trial::wait_until;

fn verdict(http: &mut Http) -> String {
    http.get("/v1/queues/q").json()["verdict"].as_str().unwrap().to_owned()
}

fn lease(http: &mut Http, body: &str) -> Value {
    http.post("/v1/queues/q/lease", body).expect(200).json()
}

fn holding(lease: &Value) -> String {
    let item = &lease["items"][0];
    format!(r#"{{"id":{},"token":{}}}"#, item["id"], item["token"])
}

#[test]
fn queue_goes_from_pending_to_drained() {
    let daemon = Queued::start(&["--data", "memory"]);
    let http = &mut daemon.http();
    http.call("PUT", "/v1/queues/q", "").expect(201);
    assert_eq!(verdict(http), "pending");
    assert_eq!(lease(http, "")["done"], false);
    http.post("/v1/queues/q/items", "x").expect(201);
    assert_eq!(verdict(http), "working");
    let leased = lease(http, "");
    assert_eq!(verdict(http), "working", "leased is not drained: it may come back");
    let other = lease(http, "");
    assert_eq!((other["done"].as_bool(), other["verdict"].as_str()), (Some(false), Some("working")));
    http.post("/v1/queues/q/nack", holding(&leased).replace('}', r#","delay_ms":100000}"#)).expect(200);
    assert_eq!(verdict(http), "working", "delayed is not drained");
    http.post("/v1/queues/q/drain", "").expect(200);
    assert_eq!(verdict(http), "drained");
    assert_eq!(lease(http, r#"{"wait_ms":60000}"#)["done"], true, "at once");
    http.post("/v1/queues/q/items?delay_ms=100000", "x").expect(201);
    assert_eq!(verdict(http), "working");
}

#[test]
fn sealed_queues_drain_only_after_a_seal() {
    let daemon = Queued::start(&["--data", "memory"]);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/seal", "").expect(200);
    assert_eq!(verdict(http), "drained", "an empty work list is done");
    assert_eq!(lease(http, r#"{"wait_ms":60000}"#)["done"], true);
    assert_eq!(http.post("/v1/queues/q/unseal", "").expect(200).json()["verdict"], "pending");
    http.post("/v1/queues/q/items", "x").expect(201);
    let leased = lease(http, "");
    http.post("/v1/queues/q/ack", holding(&leased)).expect(200);
    assert_eq!(verdict(http), "working", "it is empty, but was sealed once and is not now");
    assert_eq!(lease(http, r#"{"until":"empty"}"#)["done"], true);
    assert_eq!(lease(http, r#"{"until":"drained"}"#)["done"], false);
    http.post("/v1/queues/q/batch?seal=true", "y\n").expect(201);
    assert_eq!(http.post("/v1/queues/q/items", "z").expect(409).error(), "sealed");
    let leased = lease(http, "");
    http.post("/v1/queues/q/ack", holding(&leased)).expect(200);
    assert_eq!(verdict(http), "drained");
    assert_eq!(lease(http, r#"{"until":"sealed"}"#)["done"], true);
    assert_eq!(lease(http, r#"{"until":"forever"}"#)["done"], false);
}

#[test]
fn last_ack_tells_all_waiting_workers() {
    let daemon = Queued::start(&[]);
    daemon.post("/v1/queues/q/items", "last").expect(201);
    let leased = lease(&mut daemon.http(), "");
    let mut workers: Vec<Http> = (0..30).map(|_| daemon.http()).collect();
    for (n, worker) in workers.iter_mut().enumerate() {
        worker.send("POST", "/v1/queues/q/lease", "", br#"{"wait_ms":60000}"#).unwrap();
        if n == 0 {
            // The order of the other workers does not matter.
            wait_until("the first waits", || daemon.get("/v1/queues/q").json()["waiting"] == 1);
        }
    }
    wait_until("all wait", || daemon.get("/v1/queues/q").json()["waiting"] == 30);
    // The last item is requeued once more: one worker gets it, and still no other is answered.
    let release = holding(&leased).replace('}', r#","release":true}"#);
    daemon.post("/v1/queues/q/nack", release).expect(200);
    wait_until("one has it", || daemon.get("/v1/queues/q").json()["waiting"] == 29);
    assert_eq!(daemon.get("/v1/queues/q").json()["verdict"], "working");
    // Workers are served in the order of their requests.
    let leased = workers.remove(0).receive().unwrap().json();
    assert_eq!(leased["items"][0]["attempt"], 1);
    daemon.post("/v1/queues/q/ack", holding(&leased)).expect(200);
    for worker in &mut workers {
        let told = worker.receive().unwrap().json();
        assert_eq!((told["done"].as_bool(), told["verdict"].as_str()), (Some(true), Some("drained")));
    }
}

#[test]
fn last_dead_letter_drains_the_queue() {
    let daemon = Queued::start(&["--data", "memory"]);
    let http = &mut daemon.http();
    http.call("PUT", "/v1/queues/q", r#"{"max_attempts":1}"#).expect(201);
    http.post("/v1/queues/q/items", "poison").expect(201);
    let leased = lease(http, "");
    let mut waiting = daemon.http();
    waiting.send("POST", "/v1/queues/q/lease", "", br#"{"wait_ms":60000}"#).unwrap();
    wait_until("it waits", || daemon.get("/v1/queues/q").json()["waiting"] == 1);
    let nacked = http.post("/v1/queues/q/nack", holding(&leased).replace('}', r#","reason":"boom"}"#));
    assert_eq!(nacked.expect(200).json()["results"][0]["status"], "dead");
    assert_eq!(waiting.receive().unwrap().json()["done"], true);
    assert_eq!(http.get("/v1/queues/q/dead").json()["items"][0]["reason"], "boom");
}

#[test]
fn worker_waits_for_a_missing_queue() {
    let daemon = Queued::start(&["--data", "memory"]);
    assert_eq!(daemon.post("/v1/queues/q/lease", "").expect(404).error(), "no_such_queue");
    let mut waiting = daemon.http();
    waiting.send("POST", "/v1/queues/q/lease", "", br#"{"wait_ms":60000}"#).unwrap();
    wait_until("somebody waits or comes too late", || {
        daemon.post("/v1/queues/q/items", "x").expect(201);
        daemon.get("/v1/queues/q").json()["leased"] == 1
    });
    assert_eq!(waiting.receive().unwrap().json()["items"][0]["body"], "x");
}

#[test]
fn disconnected_waiter_leases_nothing() {
    let daemon = Queued::start(&["--data", "memory"]);
    daemon.http().call("PUT", "/v1/queues/q", "").expect(201);
    let mut waiting = daemon.http();
    waiting.send("POST", "/v1/queues/q/lease", "", br#"{"wait_ms":60000}"#).unwrap();
    wait_until("it waits", || daemon.get("/v1/queues/q").json()["waiting"] == 1);
    drop(waiting);
    wait_until("its place is gone", || daemon.get("/v1/queues/q").json()["waiting"] == 0);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    let queue = daemon.get("/v1/queues/q").json();
    assert_eq!((queue["ready"].as_u64(), queue["leases"].as_u64()), (Some(1), Some(0)));
}

#[test]
fn waits_end_when_the_server_drains() {
    let daemon = Queued::start(&["--data", "memory"]);
    daemon.http().call("PUT", "/v1/queues/q", "").expect(201);
    let mut waiting = daemon.http();
    waiting.send("POST", "/v1/queues/q/lease", "", br#"{"wait_ms":60000}"#).unwrap();
    wait_until("it waits", || daemon.get("/v1/queues/q").json()["waiting"] == 1);
    assert!(daemon.terminate().success());
    let answer = waiting.receive().unwrap().expect(200).json();
    assert_eq!((answer["done"].as_bool(), answer["verdict"].as_str()), (Some(false), Some("pending")));
}

#[test]
fn verdict_counts_failed_items_across_sigkill() {
    let mut daemon = Queued::start(&["--segment-bytes", "64KiB"]);
    let http = &mut daemon.http();
    let settings = r#"{"max_attempts":1,"dead_letter_queue":"q-dead"}"#;
    http.call("PUT", "/v1/queues/q", settings).expect(201);
    http.call("PUT", "/v1/queues/stays", r#"{"max_attempts":1}"#).expect(201);
    for queue in ["q", "stays"] {
        http.post(&format!("/v1/queues/{queue}/batch?seal=true"), "1\n2\n3").expect(201);
        for _ in 0..3 {
            let leased = http.post(&format!("/v1/queues/{queue}/lease"), "").expect(200).json();
            http.post(&format!("/v1/queues/{queue}/nack"), holding(&leased)).expect(200);
        }
    }
    let told = |daemon: &Queued, queue: &str| {
        let told = daemon.post(&format!("/v1/queues/{queue}/lease"), "").expect(200).json();
        assert_eq!((told["verdict"].as_str(), told["done"].as_bool()), (Some("drained"), Some(true)));
        told["failed"].as_u64().unwrap()
    };
    assert_eq!((told(&daemon, "q"), told(&daemon, "stays")), (3, 3));
    // Fills further segments, so that no record from that time is left.
    for _ in 0..10 {
        http.post("/v1/queues/other/items", "x".repeat(30_000)).expect(201);
        let leased = lease_of(http, "other");
        http.post("/v1/queues/other/ack", holding(&leased)).expect(200);
    }
    wait_until("the first segment is gone", || !daemon.setup.path("data/0000000001.log").exists());
    daemon.kill9();
    daemon.restart();
    assert_eq!((told(&daemon, "q"), told(&daemon, "stays")), (3, 3));
    assert_eq!(daemon.metric("failed_items{queue=\"q\"}"), 3.0);
    assert_eq!(daemon.get("/v1/stats").json()["failed"], 6);
    // Another attempt succeeds, and no failures are left.
    assert_eq!(daemon.post("/v1/queues/stays/dead/redrive", "").json()["count"], 3);
    for _ in 0..3 {
        let leased = lease_of(&mut daemon.http(), "stays");
        daemon.post("/v1/queues/stays/ack", holding(&leased)).expect(200);
    }
    assert_eq!(told(&daemon, "stays"), 0);
}

fn lease_of(http: &mut Http, queue: &str) -> Value {
    http.post(&format!("/v1/queues/{queue}/lease"), "").expect(200).json()
}
