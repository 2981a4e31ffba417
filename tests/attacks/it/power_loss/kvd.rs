//! kvd: an answered write is present and whole after a power loss, and compare-and-set is exact.

use super::{lose_power, power_on, wait_for_more};
use crate::disk::{Disk, Kind};
use crate::http::Http;
use crate::keys::{self, Keys};
use std::sync::atomic::Ordering;
use trial::Process;

const WRITERS: usize = 16;

fn answers_survive(kind: Kind) {
    let disk = Disk::new(kind);
    let keys = Keys::default();
    let command = || keys::command(&disk.path("data"));
    let rounds = crate::rounds();
    for round in 0..rounds {
        if round % 4 == 0 {
            // The power fails in the middle of a start: in the first round, while the database is created.
            let agent = Process::start(&mut command());
            for _ in 0..fastrand::u32(0..20_000) {
                std::thread::yield_now();
            }
            disk.lose_power();
            agent.kill9();
            disk.power_on();
        }
        let agent = Process::start_ready(&mut command());
        let address = agent.address("http");
        let mut http = Http::connect(address).unwrap();
        keys.check(&mut http);
        keys.make(&mut http).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let keys = &keys;
                scope.spawn(move || keys.write(address, writer));
            }
            wait_for_more(&keys.answers, fastrand::u64(1..400), &agent);
            lose_power(&disk, &keys.blackout);
            agent.kill9();
        });
        power_on(&disk, &keys.blackout);
    }
    let agent = Process::start_ready(&mut command());
    keys.check(&mut Http::connect(agent.address("http")).unwrap());
    agent.kill9();
    let answers = keys.answers.load(Ordering::Relaxed);
    eprintln!("kvd, {kind:?}: power lost {rounds} times, {answers} answers kept");
}

#[test]
fn kvd_answers_survive_on_ext4() {
    answers_survive(Kind::Ext4);
}

#[test]
fn kvd_answers_survive_on_xfs() {
    answers_survive(Kind::Xfs);
}
