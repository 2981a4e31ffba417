//! logcd that deletes archived logs: whatever was on the disk is in the archive or still in the directory.

use crate::disk::{Disk, Kind};
use crate::logs::{self, Logs};
use trial::Process;

/// With more rounds the archive would nearly fill the disk, which needs room for two archives.
const ROUNDS_OF_A_DISK: u64 = 20;

/// More waiting logs would fill the disk while an archive is read.
const WAITING_MAX: usize = 50;

fn nothing_is_lost(kind: Kind) {
    let rounds = crate::rounds();
    let (mut count, mut left) = (0, rounds);
    while left > 0 {
        let now = left.min(ROUNDS_OF_A_DISK);
        count += on_a_new_disk(kind, now);
        left -= now;
    }
    eprintln!("logcd, {kind:?}: power lost {rounds} times, {count} logs deleted and kept");
}

/// Runs the rounds on a new disk and returns how many logs there were.
fn on_a_new_disk(kind: Kind, rounds: u64) -> usize {
    let disk = Disk::new(kind);
    let mut logs = Logs::below(&disk.root());
    for _ in 0..rounds {
        let agent = Process::start_ready(&mut logs::command(logs.directory(), logs.out()));
        let enough = logs.gone() + fastrand::usize(1..30);
        logs.until_gone(enough, &agent, |logs| {
            if logs.count() < logs.gone() + WAITING_MAX {
                logs.write(fastrand::usize(1..20_000));
            }
        });
        disk.lose_power();
        agent.kill9();
        disk.power_on();
        logs.check();
    }
    logs.all_go();
    logs.count()
}

#[test]
fn deleted_logs_are_archived_on_ext4() {
    nothing_is_lost(Kind::Ext4);
}

#[test]
fn deleted_logs_are_archived_on_xfs() {
    nothing_is_lost(Kind::Xfs);
}
