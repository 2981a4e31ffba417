//! Very many queues: the state repeated in each segment does not outgrow the items.

use crate::completeness::copy_files;
use crate::daemon::{Queued, Setup};

/// A queue name of the maximum length.
fn name(n: u32) -> String {
    format!("{n:05}{}", "n".repeat(120))
}

#[test]
fn too_many_queues_are_refused_with_advice() {
    let mut daemon = Queued::start(&["--segment-bytes", "64KiB", "--max-queues", "100000"]);
    let http = &mut daemon.http();
    let mut made = 0;
    let refused = loop {
        let answer = http.post(&format!("/v1/queues/{}/items", name(made)), "x");
        if answer.status != 201 {
            break answer;
        }
        made += 1;
    };
    assert_eq!((refused.status, refused.error().as_str()), (429, "full"));
    assert!(refused.text().contains("--segment-bytes"), "{}", refused.text());
    assert!((50..100).contains(&made), "{made} queues in 64 KiB");
    http.call("DELETE", &format!("/v1/queues/{}", name(0)), "").expect(204);
    http.post(&format!("/v1/queues/{}/items", name(made)), "in its place").expect(201);
    daemon.kill9();
    daemon.restart();
    daemon.post(&format!("/v1/queues/{}/items", name(made + 1)), "x").expect(429);
}

/// The queues may have been created while segments were longer.
#[test]
fn many_queues_share_their_checkpoints() {
    let daemon = Queued::start(&["--segment-bytes", "4MiB", "--max-queues", "100000"]);
    let http = &mut daemon.http();
    for n in 0..1000 {
        http.call("PUT", &format!("/v1/queues/{}", name(n)), "{}").expect(201);
    }
    daemon.terminate();
    let mut daemon = with_small_segments(&daemon);
    let before = daemon.metric("written_bytes_total");
    let http = &mut daemon.http();
    for _ in 0..200 {
        http.post(&format!("/v1/queues/{}/items", name(7)), "x".repeat(1000)).expect(201);
    }
    let written = daemon.metric("written_bytes_total") - before;
    // Items of 200 KB and a few checkpoints of some 200 KB; one checkpoint per push would be 40 MB.
    assert!(written < 1_500_000.0, "{written} bytes for 200 items of 1000");
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.get(&format!("/v1/queues/{}", name(7))).json()["ready"], 200);
}

fn with_small_segments(daemon: &Queued) -> Queued {
    let setup = Setup::new(&["--segment-bytes", "64KiB", "--max-queues", "100000"]);
    let to = setup.path("data");
    std::fs::create_dir(&to).unwrap();
    copy_files(&daemon.setup.path("data"), &to, |name| name != "spare");
    setup.start()
}
