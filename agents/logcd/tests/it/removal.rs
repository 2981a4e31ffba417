//! `--remove-after` deletes logs that are old and safely archived, and nothing else.

use crate::support::{Bench, Dice, members};
use jiff::{SignedDuration, Timestamp};
use logcd::cycle::archiver::{Archiver, CycleMode};
use logcd::logs::removal::remove;
use logcd::safe_dir::{SafeDir, status_of};
use std::fs::File;
use trial::wait_until;

fn cycle_in(archiver: &mut Archiver, hours: i64) -> u64 {
    let now = Timestamp::now() + SignedDuration::from_hours(hours);
    archiver.cycle(now, CycleMode::Now).unwrap().removed_sources
}

#[test]
fn old_archived_log_is_deleted() {
    let bench = Bench::new(&["--remove-after=2h"]);
    let content = Dice::new(1).lines(300_000);
    bench.write("old.log", &content);
    let mut archiver = bench.archiver();
    assert_eq!(cycle_in(&mut archiver, 0), 0);
    assert_eq!(cycle_in(&mut archiver, 1), 0);
    // The modification time can be set back, but not the change time.
    let file = File::options().write(true).open(bench.log("old.log")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(cycle_in(&mut archiver, 1), 0);
    assert!(bench.log("old.log").exists());
    // The log stays while its last change is so recent that another one could have the same time.
    wait_until("the removal", || cycle_in(&mut archiver, 3) == 1);
    assert!(!bench.log("old.log").exists());
    assert!(bench.archives().iter().any(|archive| members(archive).values().any(|held| *held == content)));
    assert_eq!(cycle_in(&mut archiver, 4), 0);
}

#[test]
fn damaged_archive_prevents_deletion() {
    use std::os::unix::fs::FileExt;
    let bench = Bench::new(&["--remove-after=2h"]);
    bench.write("old.log", Dice::new(1).lines(300_000));
    let mut archiver = bench.archiver();
    archiver.cycle(Timestamp::now(), CycleMode::Now).unwrap();
    drop(archiver);
    let archive = bench.archive();
    let file = File::options().write(true).open(&archive).unwrap();
    file.write_all_at(b"ROT", file.metadata().unwrap().len() / 2).unwrap();
    let mut archiver = bench.archiver();
    let now = Timestamp::now() + SignedDuration::from_hours(3);
    let _ = archiver.cycle(now, CycleMode::Now);
    let kept = bench.log("old.log").exists();
    let safe = bench
        .archives()
        .iter()
        .any(|archive| bench.reader().arg("verify").arg(archive).status().unwrap().success());
    assert!(kept || safe, "deleted without a sound archive");
}

#[test]
fn changed_log_is_not_deleted() {
    let bench = Bench::new(&[]);
    bench.write("x.log", "archived\n");
    let archived = status_of(&File::open(bench.log("x.log")).unwrap()).unwrap().stamp;
    let root = SafeDir::open(&bench.root.path().canonicalize().unwrap().join("log")).unwrap();
    bench.append("x.log", "not archived\n");
    assert!(!remove(&root, b"x.log", &archived).unwrap());
    bench.write("new", "archived\n");
    std::fs::rename(bench.log("new"), bench.log("x.log")).unwrap();
    assert!(!remove(&root, b"x.log", &archived).unwrap());
    assert!(bench.log("x.log").exists());
    let now = status_of(&File::open(bench.log("x.log")).unwrap()).unwrap().stamp;
    assert!(remove(&root, b"x.log", &now).unwrap());
    assert!(!bench.log("x.log").exists());
}

#[test]
fn half_deleted_log_gets_its_name_back() {
    let bench = Bench::new(&["--remove-after=2h"]);
    bench.write("x.log", "line\n");
    bench.write(".y.log.logcd-removing", "left by a crash\n");
    bench.write(".x.log.logcd-removing", "its name was taken since\n");
    // The longest possible name.
    let long = "n".repeat(251) + ".log";
    bench.write(&long, "long\n");
    let mut archiver = bench.archiver();
    cycle_in(&mut archiver, 0);
    let archived = |content: &[u8]| members(&bench.archive()).values().any(|held| held == content);
    assert!(archived(b"line\n") && archived(b"left by a crash\n") && archived(b"its name was taken since\n"));
    assert!(archived(b"long\n"));
    wait_until("the removal", || {
        cycle_in(&mut archiver, 3);
        std::fs::read_dir(bench.root.path().join("log")).unwrap().count() == 0
    });
}
