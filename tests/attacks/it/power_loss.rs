//! Power loss at a random moment under load: everything that was promised to be on the disk is there
//! afterwards.

mod kvd;
mod logcd;
mod logd;
mod pods;
mod queued;

use crate::disk::Disk;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::Process;

/// Cuts the disk's power while the agent runs for a moment longer. In that moment, a file system may report
/// to a pending sync that nothing is left to do. Answers given then are no promise: without power nobody
/// would have received them.
fn lose_power(disk: &Disk, blackout: &AtomicBool) {
    blackout.store(true, Ordering::SeqCst);
    disk.lose_power();
}

/// Restores the power after the agent's end.
fn power_on(disk: &Disk, blackout: &AtomicBool) {
    blackout.store(false, Ordering::SeqCst);
    disk.power_on();
}

/// Waits until the counter has grown by `more`.
pub fn wait_for_more(counted: &AtomicU64, more: u64, agent: &Process) {
    let enough = counted.load(Ordering::Relaxed) + more;
    agent.wait_until("its answers", || counted.load(Ordering::Relaxed) >= enough);
}
