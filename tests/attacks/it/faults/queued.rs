//! queued: every request answered under the fault, or before the kill, holds at the next start without
//! faults.

use super::{Traced, ready_or_clear, under_each_fault};
use crate::http::Http;
use crate::queue::{self, Queue};
use std::path::Path;
use trial::{Process, wait_until};

/// Enough cycles for several segments of the smallest size to be started, cleaned and reused.
const CYCLES: usize = 60;

fn scenario(directory: &Path, traced: &Traced) {
    let data = directory.join("data");
    let mut paths = vec![data.clone(), data.join("spare"), data.join("spare.new"), data.join("lock")];
    paths.extend([data.join("head"), data.join("head.new")]);
    paths.extend((1..40).map(|number| data.join(format!("{number:010}.log"))));
    let queue = Queue::new("q");
    let mut command = traced.command("queued", directory, &paths);
    queue::configure(&mut command, &data, "always", "64KiB");
    let agent = Process::start(&mut command);
    if ready_or_clear(&agent, &data) {
        // The agent may be killed at any moment from here on.
        let _ = cycles(&queue, queue::door(&agent));
        agent.kill9();
    }
    let agent = Process::start_ready(&mut queue::command(&data, "always", "64KiB"));
    let mut http = Http::connect(queue::door(&agent)).unwrap();
    queue.check(&mut http);
    queue.make(&mut http).unwrap();
    assert!(queue.push(&mut http, 2).unwrap(), "it does not go on");
    agent.kill9();
}

fn cycles(queue: &Queue, address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut http = Http::connect(address)?;
    queue.make(&mut http)?;
    let mut held = Vec::new();
    for _ in 0..CYCLES {
        queue.push(&mut http, 3)?;
        queue.work(&mut http, &mut held, 3)?;
    }
    // The agent recovers by itself unless it is killed.
    let mut pushed = Ok(false);
    wait_until("that it recovers", || {
        pushed = queue.push(&mut http, 1);
        !matches!(pushed, Ok(false))
    });
    pushed.map(drop)
}

#[test]
fn queued_keeps_its_answers_under_every_fault() {
    under_each_fault("queued", scenario);
}
