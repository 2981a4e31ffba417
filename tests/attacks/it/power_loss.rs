//! The power is lost at a random moment under load; what was promised to be on the disk is there afterwards.

mod logcd;
mod logd;
mod queued;

use crate::disk::Disk;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::Process;

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
pub fn wait_for_more(counted: &AtomicU64, more: u64, agent: &Process) {
    let enough = counted.load(Ordering::Relaxed) + more;
    agent.wait_until("its answers", || counted.load(Ordering::Relaxed) >= enough);
}
