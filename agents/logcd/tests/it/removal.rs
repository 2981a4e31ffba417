//! `--remove-after` deletes logs that are old and safely archived, and nothing else.

use crate::support::{Setup, log_lines, members};
use fastrand::Rng;
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
    let setup = Setup::new(&["--remove-after=2h"]);
    let content = log_lines(&mut Rng::with_seed(1), 300_000);
    setup.write("old.log", &content);
    let mut archiver = setup.archiver();
    assert_eq!(cycle_in(&mut archiver, 0), 0);
    assert_eq!(cycle_in(&mut archiver, 1), 0);
    // The modification time can be set back, but not the change time.
    let file = File::options().write(true).open(setup.log("old.log")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(cycle_in(&mut archiver, 1), 0);
    assert!(setup.log("old.log").exists());
    // The log stays while its last change is so recent that another one could have the same time.
    wait_until("the removal", || cycle_in(&mut archiver, 3) == 1);
    assert!(!setup.log("old.log").exists());
    assert!(setup.archives().iter().any(|archive| members(archive).values().any(|held| *held == content)));
    assert_eq!(cycle_in(&mut archiver, 4), 0);
}

#[test]
fn damaged_archive_prevents_deletion() {
    use std::os::unix::fs::FileExt;
    let setup = Setup::new(&["--remove-after=2h"]);
    setup.write("old.log", log_lines(&mut Rng::with_seed(1), 300_000));
    let mut archiver = setup.archiver();
    archiver.cycle(Timestamp::now(), CycleMode::Now).unwrap();
    drop(archiver);
    let archive = setup.archive();
    let file = File::options().write(true).open(&archive).unwrap();
    file.write_all_at(b"ROT", file.metadata().unwrap().len() / 2).unwrap();
    let mut archiver = setup.archiver();
    let now = Timestamp::now() + SignedDuration::from_hours(3);
    let _ = archiver.cycle(now, CycleMode::Now);
    let kept = setup.log("old.log").exists();
    let safe = setup
        .archives()
        .iter()
        .any(|archive| setup.reader().arg("verify").arg(archive).status().unwrap().success());
    assert!(kept || safe, "deleted without a sound archive");
}

#[test]
fn changed_log_is_not_deleted() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "archived\n");
    let archived = status_of(&File::open(setup.log("x.log")).unwrap()).unwrap().stamp;
    let root = SafeDir::open(&setup.root.path().canonicalize().unwrap().join("log")).unwrap();
    setup.append("x.log", "not archived\n");
    assert!(!remove(&root, b"x.log", &archived).unwrap());
    setup.write("new", "archived\n");
    std::fs::rename(setup.log("new"), setup.log("x.log")).unwrap();
    assert!(!remove(&root, b"x.log", &archived).unwrap());
    assert!(setup.log("x.log").exists());
    let now = status_of(&File::open(setup.log("x.log")).unwrap()).unwrap().stamp;
    assert!(remove(&root, b"x.log", &now).unwrap());
    assert!(!setup.log("x.log").exists());
}

#[test]
fn half_deleted_log_gets_its_name_back() {
    let setup = Setup::new(&["--remove-after=2h"]);
    setup.write("x.log", "line\n");
    setup.write(".y.log.logcd-removing", "left by a crash\n");
    setup.write(".x.log.logcd-removing", "its name was taken since\n");
    // The longest possible name.
    let long = "n".repeat(251) + ".log";
    setup.write(&long, "long\n");
    let mut archiver = setup.archiver();
    cycle_in(&mut archiver, 0);
    let archived = |content: &[u8]| members(&setup.archive()).values().any(|held| held == content);
    assert!(archived(b"line\n") && archived(b"left by a crash\n") && archived(b"its name was taken since\n"));
    assert!(archived(b"long\n"));
    wait_until("the removal", || {
        cycle_in(&mut archiver, 3);
        std::fs::read_dir(setup.root.path().join("log")).unwrap().count() == 0
    });
}
