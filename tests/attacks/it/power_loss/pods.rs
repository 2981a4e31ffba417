//! logcd that archives container logs: whatever kubelet's files or an archive have after a power loss is archived
//! once.

use crate::container_logs::{all_lines, command};
use crate::disk::{Disk, Kind, run};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::process::Command;
use trial::Process;
use trial::kubelet::{Kubelet, Seen, check_lines};

/// With more rounds the archives would fill the disk.
const ROUNDS_OF_A_DISK: u64 = 50;

fn nothing_is_lost(kind: Kind) {
    let (rounds, mut rng, seed) = crate::seeded();
    let (mut lines, mut left) = (0, rounds);
    while left > 0 {
        let now = left.min(ROUNDS_OF_A_DISK);
        lines += on_a_new_disk(kind, now, &mut rng);
        left -= now;
    }
    eprintln!(
        "logcd --pods, {kind:?}, ATTACK_SEED={seed}: power lost {rounds} times, {lines} lines archived once"
    );
}

/// Runs the rounds on a new disk and returns the number of archived lines.
fn on_a_new_disk(kind: Kind, rounds: u64, rng: &mut Rng) -> usize {
    let disk = Disk::new(kind);
    let (pods, out) = (disk.path("pods"), disk.path("out"));
    for made in [&pods, &out] {
        std::fs::create_dir(made).unwrap();
    }
    std::fs::File::open(disk.root()).unwrap().sync_all().unwrap();
    let mut kubelet = Kubelet::new(&pods);
    let mut archived = BTreeMap::<Seen, u64>::new();
    for round in 0..rounds {
        let agent = Process::start_ready(&mut command(&pods, &out));
        for _ in 0..rng.u64(1..40) {
            kubelet.act(rng);
            if rng.u64(..6) == 0 {
                // The kernel writes logs back at any time, so that they lose only their ends.
                run(Command::new("sync").arg("--file-system").arg(&pods));
            }
            if rng.u64(..4) == 0 {
                agent.wait_until("everything is open", || kubelet.all_are_open(&agent));
                archived = all_lines(&out).unwrap();
            }
        }
        disk.lose_power();
        agent.kill9();
        kubelet.close();
        disk.power_on();
        // Every archive that exists is readable before the next start, too. The last commit may be hidden until then.
        let mut expected = all_lines(&out).unwrap();
        expected.extend(archived);
        expected.extend(kubelet.lines_in_logs().unwrap());
        kubelet.restart_all();
        let agent = Process::start_ready(&mut command(&pods, &out));
        let status = agent.terminate();
        assert!(status.success(), "{status}: {:?}", agent.last_events());
        archived = all_lines(&out).unwrap();
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
