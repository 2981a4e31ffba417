//! logd with `--sync always`: a receipt means that the line is on the disk. With an interval, lines older
//! than the interval are on the disk.

use super::{lose_power, power_on, wait_for_more};
use crate::disk::{Disk, Kind};
use crate::http::Http;
use crate::lines::{self, Senders};
use std::sync::atomic::Ordering;
use trial::Process;

const SENDERS: usize = 4;

/// Waits under load until there were some more receipts, then cuts the power.
fn lose_power_under_load(disk: &Disk, senders: &Senders, agent: &Process) {
    let address = lines::door(agent);
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| senders.go_on(address));
        }
        wait_for_more(&senders.receipts, fastrand::u64(1..300), agent);
        lose_power(disk, &senders.blackout);
        agent.kill9();
    });
    power_on(disk, &senders.blackout);
}

fn always(kind: Kind) {
    let disk = Disk::new(kind);
    let senders = Senders::default();
    let file = disk.path("node_log");
    let rounds = crate::rounds();
    for round in 0..rounds {
        let agent = Process::start_ready(&mut lines::command(&file, "always"));
        lose_power_under_load(&disk, &senders, &agent);
        let agent = Process::start_ready(&mut lines::command(&file, "always"));
        senders.check(&file, round + 1);
        agent.kill9();
    }
    let receipts = senders.receipts.load(Ordering::Relaxed);
    eprintln!("logd, always, {kind:?}: power lost {rounds} times, {receipts} receipts kept");
}

#[test]
fn logd_receipts_survive_on_ext4() {
    always(Kind::Ext4);
}

#[test]
fn logd_receipts_survive_on_xfs() {
    always(Kind::Xfs);
}

fn interval(kind: Kind) {
    let disk = Disk::new(kind);
    let (old, new) = (Senders::default(), Senders::starting_at(1 << 40));
    let file = disk.path("node_log");
    let rounds = crate::rounds();
    for round in 0..rounds {
        let agent = Process::start_ready(&mut lines::command(&file, "100ms"));
        old.send(lines::door(&agent)).unwrap();
        // By then, a sync that began after the receipt has finished.
        let mut http = Http::connect(agent.address("admin")).unwrap();
        let enough = http.metric("logd_syncs_total") + 2;
        agent.wait_until("two syncs", || {
            new.send(lines::door(&agent)).unwrap();
            http.metric("logd_syncs_total") >= enough
        });
        lose_power_under_load(&disk, &new, &agent);
        new.forget();
        let agent = Process::start_ready(&mut lines::command(&file, "100ms"));
        old.check(&file, round + 1);
        agent.kill9();
    }
    eprintln!("logd, interval, {kind:?}: power lost {rounds} times");
}

/// Sends nothing to the run after the killed one, so that only that run's own sync can save the lines.
fn after_a_kill(kind: Kind) {
    let disk = Disk::new(kind);
    let senders = Senders::default();
    let file = disk.path("node_log");
    for round in 0..crate::rounds() {
        // With an interval of an hour, the killed run does not sync what it wrote.
        let agent = Process::start_ready(&mut lines::command(&file, "1h"));
        senders.send(lines::door(&agent)).unwrap();
        agent.kill9();
        let agent = Process::start_ready(&mut lines::command(&file, "10ms"));
        let mut http = Http::connect(agent.address("admin")).unwrap();
        agent.wait_until("a sync", || http.metric("logd_syncs_total") > 0);
        disk.lose_power();
        agent.kill9();
        disk.power_on();
        let agent = Process::start_ready(&mut lines::command(&file, "1h"));
        senders.check(&file, round + 1);
        agent.kill9();
    }
}

#[test]
fn next_logd_syncs_leftovers_on_ext4() {
    after_a_kill(Kind::Ext4);
}

#[test]
fn logd_interval_bounds_losses_on_ext4() {
    interval(Kind::Ext4);
}

#[test]
fn logd_interval_bounds_losses_on_xfs() {
    interval(Kind::Xfs);
}
