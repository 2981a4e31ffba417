//! queued: an answered push is there, and an acked item does not come back.

use super::{lose_power, power_on, wait_for_more};
use crate::disk::{Disk, Kind};
use crate::http::Http;
use crate::queue::{self, Queue};
use std::sync::atomic::Ordering;
use trial::{Process, wait_until};

const PRODUCERS: usize = 2;
const WORKERS: usize = 3;

/// Runs clients until `act` has cut the power, then kills the agent; no client outlives it.
fn under_load(queue: &Queue, agent: &Process, act: impl FnOnce()) {
    let address = queue::door(agent);
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| queue.produce(address));
        }
        for _ in 0..WORKERS {
            scope.spawn(|| queue.consume(address));
        }
        act();
        agent.kill9();
    });
}

fn always(kind: Kind) {
    let disk = Disk::new(kind);
    let queue = Queue::new("q");
    let command = || queue::command(&disk.path("data"), "always", "64KiB");
    let rounds = crate::rounds();
    for round in 0..rounds {
        if round % 4 == 3 {
            // Killed in the middle of a start.
            let agent = Process::start(&mut command());
            for _ in 0..fastrand::u32(0..20_000) {
                std::thread::yield_now();
            }
            disk.lose_power();
            agent.kill9();
            disk.power_on();
        }
        let agent = Process::start_ready(&mut command());
        let mut http = Http::connect(queue::door(&agent)).unwrap();
        queue.check(&mut http);
        queue.make(&mut http).unwrap();
        under_load(&queue, &agent, || {
            wait_for_more(&queue.answers, fastrand::u64(1..400), &agent);
            lose_power(&disk, &queue.blackout);
        });
        power_on(&disk, &queue.blackout);
    }
    let agent = Process::start_ready(&mut command());
    queue.check(&mut Http::connect(queue::door(&agent)).unwrap());
    agent.kill9();
    eprintln!(
        "queued, always, {kind:?}: power lost {rounds} times, {} answers kept",
        queue.answers.load(Ordering::Relaxed)
    );
}

#[test]
fn queued_answers_survive_on_ext4() {
    always(Kind::Ext4);
}

#[test]
fn queued_answers_survive_on_xfs() {
    always(Kind::Xfs);
}

/// Waits until a sync has started after the last answer and finished, so that every answer so far is on the
/// disk.
fn wait_for_two_syncs(http: &mut Http) {
    let enough = http.metric("queued_syncs_total") + 2;
    wait_until("two syncs", || http.metric("queued_syncs_total") >= enough);
}

fn interval(kind: Kind) {
    let disk = Disk::new(kind);
    // Old items must stay; new ones may be lost.
    let (old, new) = (Queue::new("old"), Queue::new("new"));
    let command = || queue::command(&disk.path("data"), "300ms", "1MiB");
    let rounds = crate::rounds();
    for _ in 0..rounds {
        let agent = Process::start_ready(&mut command());
        let mut http = Http::connect(queue::door(&agent)).unwrap();
        old.check(&mut http);
        new.take_stock(&mut http);
        old.make(&mut http).unwrap();
        new.make(&mut http).unwrap();
        under_load(&new, &agent, || {
            let mut held = Vec::new();
            assert!(old.push(&mut http, 5).unwrap());
            for _ in 0..2 {
                old.work(&mut http, &mut held, 2).unwrap();
            }
            wait_for_two_syncs(&mut http);
            wait_for_more(&new.answers, fastrand::u64(1..3000), &agent);
            lose_power(&disk, &new.blackout);
        });
        power_on(&disk, &new.blackout);
    }
    let agent = Process::start_ready(&mut command());
    old.check(&mut Http::connect(queue::door(&agent)).unwrap());
    agent.kill9();
    eprintln!("queued, interval, {kind:?}: power lost {rounds} times");
}

#[test]
fn queued_interval_bounds_losses_on_ext4() {
    interval(Kind::Ext4);
}

#[test]
fn queued_interval_bounds_losses_on_xfs() {
    interval(Kind::Xfs);
}
