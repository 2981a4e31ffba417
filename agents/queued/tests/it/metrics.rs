//! Every metric is documented, and really changes.

use crate::daemon::Queued;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::TcpStream;
use trial::wait_until;

const README: &str = include_str!("../../README.md");

/// The names on the page, without the agent's prefix and the suffixes that the format adds.
fn names(daemon: &Queued) -> BTreeSet<String> {
    let page = daemon.get("/metrics").expect(200);
    let types = page.text().lines().filter_map(|line| line.strip_prefix("# TYPE queued_")?.split(' ').next());
    types.map(str::to_owned).collect()
}

#[test]
fn documented_metrics_are_the_real_ones() {
    let daemon = Queued::start(&["--data", "memory"]);
    // Families appear on the page once they have a member.
    daemon.get("/v1/queues").expect(200);
    assert_eq!(daemon.line(), "");
    let table = README.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `queued_")?.split(['`', '{']).next())
        .map(|name| name.strip_suffix("_total").unwrap_or(name).to_owned())
        .collect();
    let mut served = names(&daemon);
    assert!(served.insert("certificate_expires_timestamp_seconds".to_owned()), "this one speaks no TLS");
    assert_eq!(served, documented);
}

#[test]
fn queue_metrics_follow_its_state() {
    let daemon = Queued::start(&["--line-queue", "q"]);
    let http = &mut daemon.http();
    http.call("PUT", "/v1/queues/q", r#"{"max_attempts":2,"backoff_ms":60000}"#).expect(201);
    http.post("/v1/queues/q/batch", "one\ntwo\nthree\nfour\nfive").expect(201);
    http.post("/v1/queues/q/items?delay_ms=60000", "six").expect(201);
    let lease = |http: &mut crate::http::Http, body: &str| {
        let item = http.post("/v1/queues/q/lease", body).expect(200).json()["items"][0].clone();
        json!({"id": item["id"], "token": item["token"]})
    };
    let (one, two) = (lease(http, ""), lease(http, ""));
    lease(http, r#"{"lease_ms":100}"#);
    http.post("/v1/queues/q/ack", one.to_string()).expect(200);
    let with = |held: &serde_json::Value, field: &str, value: serde_json::Value| {
        let mut held = held.clone();
        held[field] = value;
        held.to_string()
    };
    http.post("/v1/queues/q/nack", with(&two, "delay_ms", json!(0))).expect(200);
    let two = lease(http, "");
    http.post("/v1/queues/q/nack", two.to_string()).expect(200);
    let four = lease(http, "");
    http.post("/v1/queues/q/nack", with(&four, "release", json!(true))).expect(200);
    wait_until("the short lease has expired", || daemon.metric("expired_total{queue=\"q\"}") == 1.0);
    let mut waiting = daemon.http();
    waiting.send("POST", "/v1/queues/w/lease", "", br#"{"wait_ms":60000}"#).unwrap();
    http.call("PUT", "/v1/queues/w", "").expect(201);
    wait_until("somebody waits", || daemon.metric("waiting{queue=\"w\"}") == 1.0);
    for (name, value) in [
        ("pushed_total", 6.0),
        ("leased_total", 5.0),
        ("acked_total", 1.0),
        ("nacked_total", 2.0),
        ("released_total", 1.0),
        ("died_total", 1.0),
        ("removed_total", 0.0),
        ("backlog", 4.0),
        ("body_bytes", 19.0),
    ] {
        assert_eq!(daemon.metric(&format!("{name}{{queue=\"q\"}}")), value, "{name}");
    }
    for (state, value) in [("ready", 2.0), ("delayed", 2.0), ("leased", 0.0), ("dead", 1.0)] {
        assert_eq!(daemon.metric(&format!("items{{queue=\"q\",state=\"{state}\"}}")), value, "{state}");
    }
    wait_until("time has passed", || daemon.metric("oldest_ready_seconds{queue=\"q\"}") > 0.0);
    http.post("/v1/queues/q/dead/delete", "").expect(200);
    assert_eq!(daemon.metric("removed_total{queue=\"q\"}"), 1.0);
    assert_eq!(daemon.metric("memory_bytes"), 16.0);
    assert_eq!(daemon.metric("log_bytes"), 256.0 * 1024.0);
    assert!(daemon.metric("commits_total") >= 5.0 && daemon.metric("syncs_total") >= 5.0);
    assert!(daemon.metric("commit_seconds_count") >= 5.0 && daemon.metric("written_bytes_total") > 100.0);
    http.get("/v1/queues/none").expect(404);
    assert_eq!(daemon.metric("requests_total{door=\"v1\",status=\"404\"}"), 1.0);
    assert_eq!(daemon.line(), "four");
    drop(TcpStream::connect(daemon.line_address()).unwrap());
    wait_until("both line connections ended", || {
        let ended = |outcome| daemon.metric(&format!("line_connections_total{{outcome=\"{outcome}\"}}"));
        (ended("taken"), ended("returned")) == (1.0, 1.0)
    });
}
