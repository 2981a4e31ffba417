//! `--remove-after` deletes logs that are old and safely archived, and nothing else.

use crate::support::{Bench, Dice, members};
use jiff::{SignedDuration, Timestamp};
use logcd::beneath::{Beneath, look_into};
use logcd::cycle::archivist::{Archivist, Haste};
use logcd::logs::removal::remove;
use std::fs::File;
use trial::wait_until;

fn cycle_in(archivist: &mut Archivist, hours: i64) -> u64 {
    let now = Timestamp::now() + SignedDuration::from_hours(hours);
    archivist.cycle(now, Haste::Now).unwrap().removed_sources
}

#[test]
fn old_archived_log_is_deleted() {
    let bench = Bench::new(&["--remove-after=2h"]);
    let content = Dice::new(1).lines(300_000);
    bench.write("old.log", &content);
    let mut archivist = bench.archivist();
    assert_eq!(cycle_in(&mut archivist, 0), 0);
    assert_eq!(cycle_in(&mut archivist, 1), 0);
    // The modification time can be set back, but not the change time.
    let file = File::options().write(true).open(bench.log("old.log")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(cycle_in(&mut archivist, 1), 0);
    assert!(bench.log("old.log").exists());
    // The log stays while its last change is so recent that another one could have the same time.
    wait_until("the removal", || cycle_in(&mut archivist, 3) == 1);
    assert!(!bench.log("old.log").exists());
    assert!(bench.archives().iter().any(|archive| members(archive).values().any(|held| *held == content)));
    assert_eq!(cycle_in(&mut archivist, 4), 0);
}

#[test]
fn damaged_archive_prevents_deletion() {
    use std::os::unix::fs::FileExt;
    let bench = Bench::new(&["--remove-after=2h"]);
    bench.write("old.log", Dice::new(1).lines(300_000));
    let mut archivist = bench.archivist();
    archivist.cycle(Timestamp::now(), Haste::Now).unwrap();
    drop(archivist);
    let archive = bench.archive();
    let file = File::options().write(true).open(&archive).unwrap();
    file.write_all_at(b"ROT", file.metadata().unwrap().len() / 2).unwrap();
    let mut archivist = bench.archivist();
    let now = Timestamp::now() + SignedDuration::from_hours(3);
    let _ = archivist.cycle(now, Haste::Now);
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
    let archived = look_into(&File::open(bench.log("x.log")).unwrap()).unwrap().stamp;
    let root = Beneath::open(&bench.root.path().canonicalize().unwrap().join("log")).unwrap();
    bench.append("x.log", "not archived\n");
    assert!(!remove(&root, b"x.log", &archived).unwrap());
    bench.write("new", "archived\n");
    std::fs::rename(bench.log("new"), bench.log("x.log")).unwrap();
    assert!(!remove(&root, b"x.log", &archived).unwrap());
    assert!(bench.log("x.log").exists());
    let now = look_into(&File::open(bench.log("x.log")).unwrap()).unwrap().stamp;
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
    let mut archivist = bench.archivist();
    cycle_in(&mut archivist, 0);
    let archived = |content: &[u8]| members(&bench.archive()).values().any(|held| held == content);
    assert!(archived(b"line\n") && archived(b"left by a crash\n") && archived(b"its name was taken since\n"));
    assert!(archived(b"long\n"));
    wait_until("the removal", || {
        cycle_in(&mut archivist, 3);
        std::fs::read_dir(bench.root.path().join("log")).unwrap().count() == 0
    });
}
