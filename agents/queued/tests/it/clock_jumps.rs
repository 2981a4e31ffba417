//! Leases and delays last as long as they should, with a wall clock that is wrong or is set.

use crate::daemon::Setup;
use serde_json::json;
use trial::Clock;

#[test]
#[ignore = "needs libfaketime: just test-programs"]
fn clock_jumps_do_not_affect_leases() {
    let setup = Setup::new(&[]);
    let clock = Clock::new(&setup.path(""), "+4y");
    let mut command = setup.command();
    clock.give_to(&mut command);
    let mut daemon = setup.start_with(command);
    let http = &mut daemon.http();
    http.post("/v1/queues/q/batch", "long\nshort").expect(201);
    let pushed = http.get("/v1/queues/q/items").json()["items"][0]["pushed_at"].as_str().unwrap().to_owned();
    assert!(pushed[..4].parse::<u32>().unwrap() >= 2030, "the clock is not set: {pushed}");
    let long = http.post("/v1/queues/q/lease", r#"{"lease_ms":3600000}"#).expect(200).json();
    let short = http.post("/v1/queues/q/lease", r#"{"lease_ms":200}"#).expect(200).json();
    assert_eq!((&long["items"][0]["body"], &short["items"][0]["body"]), (&json!("long"), &json!("short")));
    // Ten years forward, then back before the start: only the short lease ends, and at once.
    clock.set("+14y");
    let again = http.post("/v1/queues/q/lease", r#"{"lease_ms":200,"wait_ms":60000}"#).expect(200).json();
    assert_eq!((&again["items"][0]["body"], &again["items"][0]["attempt"]), (&json!("short"), &json!(2)));
    clock.set("-1y");
    let again = http.post("/v1/queues/q/lease", r#"{"lease_ms":200,"wait_ms":60000}"#).expect(200).json();
    assert_eq!((&again["items"][0]["body"], &again["items"][0]["attempt"]), (&json!("short"), &json!(3)));
    // Leases do not wait for the disk, but this one is written before a later push is answered.
    http.post("/v1/queues/other/items", "x").expect(201);
    // After a restart with the clock as it is now, the short lease does not last longer either.
    daemon.kill9();
    daemon.restart();
    let http = &mut daemon.http();
    // Long enough to be held until the queue is read below.
    let again = http.post("/v1/queues/q/lease", r#"{"lease_ms":3600000,"wait_ms":60000}"#).expect(200).json();
    assert_eq!((&again["items"][0]["body"], &again["items"][0]["attempt"]), (&json!("short"), &json!(4)));
    assert_eq!(http.get("/v1/queues/q").json()["leased"], 2, "the long one is still held");
}
