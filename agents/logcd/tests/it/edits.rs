//! Logs that are edited in the middle while they also grow: stamps show an append, only a comparison shows
//! the edit.

use crate::support::{NOON, Setup, at, cycle, log_lines, members, names};
use fastrand::Rng;
use logcd::cycle::archiver::{Archiver, CycleMode};
use logcd::safe_dir::status_of;
use std::fs::File;
use std::os::unix::fs::FileExt;
use trial::wait_until;

const LOG_BYTES: u64 = 8 << 20;
const MIDDLE: u64 = 5 << 20;

/// Archives a log, then edits it in the middle and appends to it, both before the next look.
fn edited(flags: &[&str]) -> (Setup, Archiver) {
    let setup = Setup::new(flags);
    setup.write("x.log", log_lines(&mut Rng::with_seed(4), LOG_BYTES));
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    edit(&setup);
    (setup, archiver)
}

fn edit(setup: &Setup) {
    let log = File::options().write(true).open(setup.log("x.log")).unwrap();
    log.write_all_at(b"EDITED", MIDDLE).unwrap();
    setup.append("x.log", "one more line\n");
    // A look right after a change makes the next one compare everything. Here only the rolling comparison may
    // find the edit.
    wait_until("times that can be trusted", || !status_of(&log).unwrap().stamp.racy);
}

/// Checks that the archive has the log as it is now, and its content before the edit.
fn assert_found(setup: &Setup) {
    let members = setup.members();
    assert_eq!(names(&members), ["x.log", "x.log.20261121T120000"]);
    assert!(members[&b"x.log"[..]] == setup.logs()[&b"x.log"[..]]);
}

#[test]
fn edit_and_append_are_in_the_next_archive() {
    let (setup, mut archiver) = edited(&[]);
    cycle(&mut archiver);
    assert_found(&setup);
}

#[test]
fn edit_above_the_budget_is_found_in_parts() {
    let (setup, mut archiver) = edited(&["--compare-bytes=1MiB"]);
    let mut looks = 0;
    while cycle(&mut archiver).published.is_none_or(|published| published.superseded == 0) {
        // Only the first look finds the log grown; another log is the reason for the later looks.
        setup.append("y.log", "line\n");
        looks += 1;
        assert!(looks <= 8, "the edit was not found");
    }
    assert!(looks > 0, "the budget was kept");
    assert!(setup.members()[&b"x.log"[..]] == setup.logs()[&b"x.log"[..]]);
}

#[test]
fn looks_without_publication_compare_too() {
    let (setup, mut archiver) = edited(&["--compare-bytes=1MiB", "--publish-percent=50"]);
    for _ in 0..9 {
        archiver.cycle(at(NOON), CycleMode::WhenWorthIt).unwrap();
        setup.append("y.log", "line\n");
    }
    cycle(&mut archiver);
    assert!(setup.members()[&b"x.log"[..]] == setup.logs()[&b"x.log"[..]]);
}

#[test]
fn finished_day_is_compared_in_full() {
    let (setup, mut archiver) = edited(&["--compare-bytes=1"]);
    cycle(&mut archiver);
    let log = std::fs::read(setup.log("x.log")).unwrap();
    assert!(setup.members()[&b"x.log"[..]] != log, "not found yet");
    archiver.cycle(at("2026-11-22T00:00:10Z"), CycleMode::WhenWorthIt).unwrap();
    assert!(members(&setup.archives()[0])[&b"x.log"[..]] == log);
}

#[test]
fn once_compares_in_full() {
    let setup = Setup::new(&["--compare-bytes=1"]);
    setup.write("x.log", log_lines(&mut Rng::with_seed(4), LOG_BYTES));
    assert!(setup.once().status.success());
    edit(&setup);
    assert!(setup.once().status.success());
    assert!(setup.members()[&b"x.log"[..]] == setup.logs()[&b"x.log"[..]]);
}
