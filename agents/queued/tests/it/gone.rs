//! The data directory is removed, moved or replaced under a running server: the server confirms nothing more
//! until it is back.

use crate::completeness::data;
use crate::daemon::{Queued, Setup};
use trial::wait_until;

fn is_not_ready(daemon: &Queued, why: &str) {
    wait_until("it is not ready and says why", || {
        let ready = daemon.get("/ready");
        ready.status == 503 && ready.text().contains(why)
    });
    let refused = daemon.post("/v1/queues/q/items", "refused").expect(507);
    assert!(refused.text().contains(why), "{}", refused.text());
}

#[test]
fn removal_under_idle_server_is_noticed() {
    let daemon = Queued::start(&[]);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    std::fs::remove_dir_all(data(&daemon)).unwrap();
    is_not_ready(&daemon, "does not lead to the directory that was opened");
    assert!(daemon.metric("write_errors_total") > 0.0);
    // A new directory with the same name does not count.
    std::fs::create_dir(data(&daemon)).unwrap();
    is_not_ready(&daemon, "does not lead to the directory that was opened");
}

#[test]
fn directory_moved_back_is_used_again() {
    let mut daemon = Queued::start(&[]);
    daemon.post("/v1/queues/q/items", "first").expect(201);
    let aside = daemon.setup.path("aside");
    std::fs::rename(data(&daemon), &aside).unwrap();
    is_not_ready(&daemon, "No such file");
    std::fs::rename(&aside, data(&daemon)).unwrap();
    wait_until("it is ready again", || daemon.get("/ready").status == 200);
    daemon.post("/v1/queues/q/items", "second").expect(201);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], 2);
}

#[test]
fn moved_parent_directory_is_noticed() {
    let setup = Setup::new(&["--data", "above/data"]);
    std::fs::create_dir(setup.path("above")).unwrap();
    let daemon = setup.start();
    std::fs::rename(daemon.setup.path("above"), daemon.setup.path("other")).unwrap();
    is_not_ready(&daemon, "No such file");
}

#[test]
fn replacement_directory_is_left_alone() {
    let daemon = Queued::start(&[]);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    std::fs::rename(data(&daemon), daemon.setup.path("aside")).unwrap();
    let mut second = Setup::new(&["--data", data(&daemon).to_str().unwrap()]).start();
    is_not_ready(&daemon, "another directory is in its place");
    second.post("/v1/queues/q/items", "y").expect(201);
    daemon.terminate();
    second.kill9();
    second.restart();
    assert_eq!(second.get("/v1/queues/q").json()["ready"], 1);
}

#[test]
fn removed_newest_segment_is_noticed_at_next_write() {
    let daemon = Queued::start(&[]);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    std::fs::remove_file(daemon.setup.path("data/0000000001.log")).unwrap();
    let mut unanswered = daemon.http();
    unanswered.send("POST", "/v1/queues/q/items", "", b"y").unwrap();
    is_not_ready(&daemon, "0000000001.log was removed or moved");
}

/// Fills some segments, then removes a file: it is noticed without a push, and all is well when it is back.
fn file_is_missed(name: &str) {
    let daemon = Queued::start(&["--segment-bytes", "256KiB"]);
    let http = &mut daemon.http();
    for _ in 0..100 {
        http.post("/v1/queues/q/items", "x".repeat(9000)).expect(201);
    }
    let (path, aside) = (data(&daemon).join(name), daemon.setup.path("aside"));
    std::fs::rename(&path, &aside).unwrap();
    is_not_ready(&daemon, &format!("{name} was removed or moved"));
    std::fs::rename(&aside, &path).unwrap();
    wait_until("it is ready again", || daemon.get("/ready").status == 200);
    http.post("/v1/queues/q/items", "again").expect(201);
}

#[test]
fn removed_head_is_noticed() {
    file_is_missed("head");
}

#[test]
fn removed_older_segment_is_noticed() {
    file_is_missed("0000000001.log");
}
