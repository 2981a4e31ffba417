//! The parts that the page at `/` relies on: its files, items whose bodies are cut, a bound on event streams.

use crate::daemon::Queued;
use crate::http::Http;
use trial::wait_until;

#[test]
fn page_and_probes_are_served_without_metrics() {
    let with_metrics = Queued::start(&["--data", "memory"]);
    let alone = Queued::start(&["--data", "memory", "--admin", "127.0.0.1:0"]);
    for daemon in [&with_metrics, &alone] {
        let page = daemon.get("/").expect(200);
        assert!(page.text().starts_with("<!doctype html>") && page.head.contains("text/html"), "{page:?}");
        assert!(daemon.get("/page/agent.js").expect(200).head.contains("text/javascript"));
    }
    for daemon in [&with_metrics, &alone] {
        assert_eq!(daemon.get("/ready").status, 200);
        assert_eq!(daemon.get("/healthy").status, 200);
    }
    assert_eq!(with_metrics.get("/metrics").status, 200);
    assert_eq!(alone.get("/metrics").status, 404);
}

#[test]
fn long_bodies_are_cut_at_a_character() {
    let daemon = Queued::start(&["--data", "memory"]);
    daemon.post("/v1/queues/q/items", "äöü").expect(201);
    daemon.post("/v1/queues/q/items", [0xff, 0xfe, 0xfd]).expect(201);
    daemon.post("/v1/queues/q/items", "ab").expect(201);
    let items = daemon.get("/v1/queues/q/items?cut=3").expect(200).json()["items"].clone();
    assert_eq!((&items[0]["body"], &items[0]["bytes"]), (&"ä".into(), &6.into()));
    assert_eq!((&items[1]["body_base64"], &items[1]["bytes"]), (&"//79".into(), &serde_json::Value::Null));
    assert_eq!((&items[2]["body"], &items[2]["bytes"]), (&"ab".into(), &serde_json::Value::Null));
    let items = daemon.get("/v1/queues/q/items?cut=1").expect(200).json()["items"].clone();
    assert_eq!((&items[0]["body"], &items[0]["bytes"]), (&"".into(), &6.into()));
    assert_eq!((&items[1]["body_base64"], &items[1]["bytes"]), (&"/w==".into(), &3.into()));
    assert_eq!(daemon.get("/v1/queues/q/items?cut=x").expect(422).error(), "invalid");
}

#[test]
fn event_streams_are_bounded() {
    let daemon = Queued::start(&["--data", "memory"]);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    let open = || {
        let mut stream: Http = daemon.http();
        stream.send("GET", "/v1/events", "", b"").unwrap();
        let head = stream.read_some();
        (stream, head)
    };
    let mut streams: Vec<_> = (0..64).map(|_| open()).collect();
    assert!(streams.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200")));
    assert_eq!(daemon.get("/v1/events").expect(503).error(), "unavailable");
    drop(streams.pop());
    wait_until("there is room again", || open().1.starts_with("HTTP/1.1 200"));
}

#[test]
fn each_queue_has_a_history_of_its_own() {
    let daemon = Queued::start(&["--data", "memory"]);
    daemon.post("/v1/queues/q/batch", "a\nb").expect(201);
    daemon.post("/v1/queues/other/items", "c").expect(201);
    let last = |path: &str| {
        let past = daemon.get(path).expect(200).json();
        assert_eq!(past["interval_ms"], 15_000);
        let rows = past["rows"].as_array().unwrap();
        assert_eq!(rows[0].as_array().unwrap()[1..], [0; 8].map(serde_json::Value::from), "it began empty");
        rows.last().unwrap().clone()
    };
    assert_eq!(last("/page/history?queue=q"), serde_json::json!([0, 2, 0, 0, 0, 2, 0, 0, 0]));
    assert_eq!(last("/page/history"), serde_json::json!([0, 3, 0, 0, 0, 3, 0, 0, 0]));
    assert_eq!(daemon.get("/page/history?queue=nosuch").expect(404).error(), "no_such_queue");
    assert_eq!(daemon.get("/page/history?q=q").expect(422).error(), "invalid");
}
