//! A wall clock that is wrong, or that is set: leases and delays last as long as they should. Needs libfaketime.
#![cfg(feature = "client-tests")]

use crate::daemon::{Queued, Setup};
use serde_json::json;
use std::path::Path;

/// Its wall clock shows what the file says; what only counts is left alone.
fn start(setup: Setup, clock: &Path) -> Queued {
    let mut command = setup.command();
    command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1").env("FAKETIME_TIMESTAMP_FILE", clock);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    setup.start_with(command)
}

#[test]
fn a_clock_that_is_set_ends_no_lease_and_keeps_none() {
    let clock = tempfile::tempdir().unwrap();
    let clock = clock.path().join("clock");
    // Replaced, not rewritten: it is read all the time.
    let set = |offset: &str| {
        std::fs::write(clock.with_extension("new"), offset).unwrap();
        std::fs::rename(clock.with_extension("new"), &clock).unwrap();
    };
    set("+4y");
    let mut daemon = start(Setup::new(&[]), &clock);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/batch", "long\nshort").expect(201);
    let pushed = http.get("/v1/queues/q/items").json()["items"][0]["pushed_at"].as_str().unwrap().to_owned();
    assert!(pushed[..4].parse::<u32>().unwrap() >= 2030, "the clock is not set: {pushed}");
    let long = http.post("/v1/queues/q/lease", r#"{"lease_ms":3600000}"#).expect(200).json();
    let short = http.post("/v1/queues/q/lease", r#"{"lease_ms":200}"#).expect(200).json();
    assert_eq!((&long["items"][0]["body"], &short["items"][0]["body"]), (&json!("long"), &json!("short")));
    // Ten years on, then back before everything: only the short lease ends, and at once.
    set("+14y");
    let again = http.post("/v1/queues/q/lease", r#"{"lease_ms":200,"wait_ms":60000}"#).expect(200).json();
    assert_eq!((&again["items"][0]["body"], &again["items"][0]["attempt"]), (&json!("short"), &json!(2)));
    set("-1y");
    let again = http.post("/v1/queues/q/lease", r#"{"lease_ms":200,"wait_ms":60000}"#).expect(200).json();
    assert_eq!((&again["items"][0]["body"], &again["items"][0]["attempt"]), (&json!("short"), &json!(3)));
    // Leases do not wait for the disk; behind a push that was answered, this one is there.
    http.post("/v1/queues/other/items", "x").expect(201);
    // Nor does it last until then, when the server starts with the clock as it is now.
    daemon.kill9();
    daemon.restart();
    let http = &mut daemon.http();
    let again = http.post("/v1/queues/q/lease", r#"{"lease_ms":200,"wait_ms":60000}"#).expect(200).json();
    assert_eq!((&again["items"][0]["body"], &again["items"][0]["attempt"]), (&json!("short"), &json!(4)));
    assert_eq!(http.get("/v1/queues/q").json()["leased"], 2, "the long one is still held");
}
