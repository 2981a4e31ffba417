//! The power is lost at a random moment under load; what was promised to be on the disk is there afterwards.

mod logcd;
mod logd;
mod queued;

use crate::agent::{Agent, DEADLINE, LOOK_EVERY};
use crate::disk::Disk;
use crate::http::Http;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

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

/// A metric without labels; nothing is counted yet where it is missing.
pub fn counter(http: &mut Http, name: &str) -> u64 {
    let (_, page) = http.call("GET", "/metrics", "").unwrap();
    let count = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("0");
    count.parse().unwrap()
}
