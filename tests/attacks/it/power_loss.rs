//! The power is lost at a random moment under load; what was promised to be on the disk is there afterwards.

mod logcd;
mod logd;
mod queued;

use crate::agent::{Agent, DEADLINE, LOOK_EVERY};
use crate::disk::Disk;
use crate::http::Http;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A start of the agent that must succeed.
pub fn started(mut agent: Agent) -> Agent {
    if !agent.becomes_ready() {
        let status = agent.join();
        panic!("it did not start again ({status}): {:#?}", agent.last_events());
    }
    agent
}

/// Here the agent outlives the power by a moment, in which a file system may tell a sync that was under way that nothing
/// is left to do. What is answered in that moment is no promise: on a machine without power nobody would have heard it.
fn lose_power(disk: &Disk, blackout: &AtomicBool) {
    blackout.store(true, Ordering::SeqCst);
    disk.lose_power();
}

/// After the agent's end.
fn power_on(disk: &Disk, blackout: &AtomicBool) {
    blackout.store(false, Ordering::SeqCst);
    disk.power_on();
}

/// Until there are so many more than now.
pub fn wait_for_more(counted: &AtomicU64, more: u64, agent: &Agent) {
    let (began, enough) = (Instant::now(), counted.load(Ordering::Relaxed) + more);
    while counted.load(Ordering::Relaxed) < enough {
        assert!(began.elapsed() < DEADLINE, "it does not answer: {:#?}", agent.last_events());
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// How often the agent forced its files to the disk so far.
fn syncs(http: &mut Http, agent: &str) -> u64 {
    let (_, page) = http.call("GET", "/metrics", "").unwrap();
    let name = format!("{agent}_syncs_total ");
    let count = page.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("0");
    count.parse().unwrap()
}
