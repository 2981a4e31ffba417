//! logcd that archives container logs: each line that is in the archives or in kubelet's files after a power
//! loss is archived once.
//!
//! `ATTACK_SEED` repeats the choices of a run.

use crate::container_logs::{all_whole_lines, command};
use crate::disk::{Disk, Kind, run};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::process::Command;
use trial::Process;
use trial::kubelet::{Kubelet, Seen, check_lines};

/// Limit on the rounds on one disk, which the archives would otherwise fill.
const ROUNDS_OF_A_DISK: u64 = 50;

fn nothing_is_lost(kind: Kind) {
    let seed = std::env::var("ATTACK_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("ATTACK_SEED={seed}");
    let (rounds, mut rng) = (crate::rounds(), Rng::with_seed(seed));
    let (mut lines, mut left) = (0, rounds);
    while left > 0 {
        let now = left.min(ROUNDS_OF_A_DISK);
        lines += on_a_new_disk(kind, now, &mut rng);
        left -= now;
    }
    eprintln!("logcd --pods, {kind:?}: power lost {rounds} times, {lines} lines archived once");
}

/// Runs the rounds on a new disk and returns the number of archived lines.
fn on_a_new_disk(kind: Kind, rounds: u64, rng: &mut Rng) -> usize {
    let disk = Disk::new(kind);
    let (pods, out) = (disk.path("pods"), disk.path("out"));
    for made in [&pods, &out] {
        std::fs::create_dir(made).unwrap();
    }
    run(Command::new("sync").arg("--file-system").arg(&pods));
    let mut kubelet = Kubelet::new(&pods);
    let mut archived = BTreeMap::<Seen, u64>::new();
    for round in 0..rounds {
        let agent = Process::start_ready(&mut command(&pods, &out));
        for _ in 0..rng.u64(1..40) {
            agent.wait_until("everything is open", || kubelet.all_are_open(&agent));
            kubelet.act(rng);
            if rng.u64(..6) == 0 {
                // The kernel may write logs back at any time. After this sync, they can lose only their ends.
                run(Command::new("sync").arg("--file-system").arg(&pods));
            }
            if rng.u64(..4) == 0 {
                archived = all_whole_lines(&out);
            }
        }
        disk.lose_power();
        agent.kill9();
        kubelet.close();
        disk.power_on();
        // Every archive is readable even before the next start. The last commit may be hidden until then.
        let mut expected = all_whole_lines(&out);
        expected.extend(archived);
        kubelet.find_all();
        expected.extend(kubelet.lines_in_logs().into_iter().map(|line| (line, 1)));
        kubelet.restart_all();
        let agent = Process::start_ready(&mut command(&pods, &out));
        let status = agent.terminate();
        assert!(status.success(), "{status}: {:?}", agent.last_events());
        archived = all_whole_lines(&out);
        check_lines(&expected, &archived).unwrap_or_else(|why| panic!("round {round}: {why}"));
    }
    archived.len()
}

#[test]
fn container_logs_are_archived_once_on_ext4() {
    nothing_is_lost(Kind::Ext4);
}

#[test]
fn container_logs_are_archived_once_on_xfs() {
    nothing_is_lost(Kind::Xfs);
}
