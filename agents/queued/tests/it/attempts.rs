//! An item shows its last attempts: who had it, since when, and how each ended.

use crate::daemon::Queued;
use serde_json::{Value, json};
use std::net::TcpStream;
use trial::wait_until;

/// Leases the only item of the queue; waits until it is ready.
fn lease(daemon: &Queued, queue: &str, worker: &str, lease_ms: u64) -> Value {
    let request = json!({"worker": worker, "lease_ms": lease_ms, "wait_ms": 30_000});
    let answer = daemon.post(&format!("/v1/queues/{queue}/lease"), request.to_string()).expect(200).json();
    answer["items"][0].clone()
}

fn nack(daemon: &Queued, queue: &str, item: &Value, mut nack: Value) {
    (nack["id"], nack["token"]) = (item["id"].clone(), item["token"].clone());
    daemon.post(&format!("/v1/queues/{queue}/nack"), nack.to_string()).expect(200);
}

fn history(daemon: &Queued, queue: &str, id: &Value) -> Vec<Value> {
    let path = format!("/v1/queues/{queue}/items/{}", id.as_str().unwrap());
    daemon.get(&path).expect(200).json()["history"].as_array().cloned().unwrap_or_default()
}

/// The attempts without their times, which must be there.
fn without_times(history: Vec<Value>) -> Vec<Value> {
    let strip = |mut attempt: Value| {
        let fields = attempt.as_object_mut().unwrap();
        let times = [fields.remove("leased_at"), fields.remove("ended_at")];
        let times = times.map(|time| time.map(|time| time.as_str().unwrap().to_owned()));
        let ended = fields.contains_key("ended");
        assert_eq!((times[0].is_some(), times[1].is_some()), (true, ended), "{attempt} {times:?}");
        if let [Some(leased), Some(ended)] = &times {
            assert!(leased <= ended, "{times:?}");
        }
        attempt
    };
    history.into_iter().map(strip).collect()
}

#[test]
fn each_end_of_a_lease_is_shown_and_survives_a_crash() {
    let mut daemon = Queued::start(&[]);
    let settings = json!({"max_attempts": 3, "backoff_ms": 0});
    daemon.http().call("PUT", "/v1/queues/q", settings.to_string()).expect(201);
    let id = daemon.post("/v1/queues/q/items", "work").expect(201).json()["id"].clone();
    assert_eq!(history(&daemon, "q", &id), [] as [Value; 0]);

    let first = lease(&daemon, "q", "pod-1/11", 30_000);
    let held = json!({"attempt": 1, "worker": "pod-1/11"});
    assert_eq!(without_times(history(&daemon, "q", &id)), std::slice::from_ref(&held));
    nack(&daemon, "q", &first, json!({"reason": "told to stop", "release": true}));
    let second = lease(&daemon, "q", "pod-2/22", 30_000);
    nack(&daemon, "q", &second, json!({"reason": "exit status 1"}));
    lease(&daemon, "q", "pod-3/33", 100);
    let last = lease(&daemon, "q", "pod-4/44", 30_000);
    nack(&daemon, "q", &last, json!({"reason": "exit status 2"}));
    let expected = [
        json!({"attempt": 1, "worker": "pod-1/11", "ended": "released", "reason": "told to stop"}),
        json!({"attempt": 1, "worker": "pod-2/22", "ended": "nacked", "reason": "exit status 1"}),
        json!({"attempt": 2, "worker": "pod-3/33", "ended": "expired", "reason": "the lease expired"}),
        json!({"attempt": 3, "worker": "pod-4/44", "ended": "nacked", "reason": "exit status 2", "fate": "dead"}),
    ];
    assert_eq!(without_times(history(&daemon, "q", &id)), expected);

    daemon.kill9();
    daemon.restart();
    assert_eq!(without_times(history(&daemon, "q", &id)), expected);
    let listed = daemon.get("/v1/queues/q/items").expect(200).json();
    assert_eq!(listed["items"][0]["history"], Value::Null, "a list stays short");
}

#[test]
fn a_moved_copy_has_the_history_of_its_item() {
    let mut daemon = Queued::start(&[]);
    let settings = json!({"max_attempts": 1, "dead_letter_queue": "bad"});
    daemon.http().call("PUT", "/v1/queues/q", settings.to_string()).expect(201);
    daemon.post("/v1/queues/q/items", "work").expect(201);
    let item = lease(&daemon, "q", "pod-1/11", 30_000);
    nack(&daemon, "q", &item, json!({"reason": "no"}));
    let copy = daemon.get("/v1/queues/bad/items").json()["items"][0]["id"].clone();
    let end =
        [json!({"attempt": 1, "worker": "pod-1/11", "ended": "nacked", "reason": "no", "fate": "moved"})];
    assert_eq!(without_times(history(&daemon, "bad", &copy)), end);
    daemon.kill9();
    daemon.restart();
    assert_eq!(without_times(history(&daemon, "bad", &copy)), end);

    let chosen = json!({"to": "by-hand", "ids": [copy]});
    daemon.post("/v1/queues/bad/items/move", chosen.to_string()).expect(200);
    let by_hand = daemon.get("/v1/queues/by-hand/items").json()["items"][0]["id"].clone();
    assert_eq!(without_times(history(&daemon, "by-hand", &by_hand)), end);
    daemon.kill9();
    daemon.restart();
    assert_eq!(without_times(history(&daemon, "by-hand", &by_hand)), end);
}

#[test]
fn a_lost_line_connection_is_told_from_a_release() {
    let daemon = Queued::start(&["--data", "memory"]);
    let id = daemon.post("/v1/queues/line/items", "one").expect(201).json()["id"].clone();
    drop(TcpStream::connect(daemon.line_address()).unwrap());
    let end = json!({"attempt": 1, "ended": "disconnected"});
    wait_until("the item is back", || {
        history(&daemon, "line", &id).iter().any(|a| a["ended"] != Value::Null)
    });
    assert_eq!(without_times(history(&daemon, "line", &id)), [end]);
}
