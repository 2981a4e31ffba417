//! Logs that are edited in the middle while they also grow: stamps show an append, only a comparison shows
//! the edit.

use crate::support::{Fixture, NOON, at, cycle, log_lines, members, names};
use fastrand::Rng;
use logcd::cycle::archiver::{Archiver, CycleMode};
use logcd::safe_dir::status_of;
use std::fs::File;
use std::os::unix::fs::FileExt;
use trial::wait_until;

const LOG_BYTES: u64 = 8 << 20;
const MIDDLE: u64 = 5 << 20;

/// Archives a log, then edits it in the middle and appends to it, both before the next look.
fn edited(flags: &[&str]) -> (Fixture, Archiver) {
    let fixture = Fixture::new(flags);
    fixture.write("x.log", log_lines(&mut Rng::with_seed(4), LOG_BYTES));
    let mut archiver = fixture.archiver();
    cycle(&mut archiver);
    edit(&fixture);
    (fixture, archiver)
}

fn edit(fixture: &Fixture) {
    let log = File::options().write(true).open(fixture.log("x.log")).unwrap();
    log.write_all_at(b"EDITED", MIDDLE).unwrap();
    fixture.append("x.log", "one more line\n");
    // A look right after a change makes the next one compare everything. Here only the rolling comparison may
    // find the edit.
    wait_until("times that can be trusted", || !status_of(&log).unwrap().stamp.racy);
}

/// Checks that the archive has the log as it is now, and its content before the edit.
fn assert_found(fixture: &Fixture) {
    let members = fixture.members();
    assert_eq!(names(&members), ["x.log", "x.log.20261121T120000"]);
    assert!(members[&b"x.log"[..]] == fixture.logs()[&b"x.log"[..]]);
}

#[test]
fn edit_and_append_are_in_the_next_archive() {
    let (fixture, mut archiver) = edited(&[]);
    cycle(&mut archiver);
    assert_found(&fixture);
}

#[test]
fn edit_above_the_budget_is_found_in_parts() {
    let (fixture, mut archiver) = edited(&["--compare-bytes=1MiB"]);
    let mut looks = 0;
    while cycle(&mut archiver).published.is_none_or(|published| published.superseded == 0) {
        // Only the first look finds the log grown; another log is the reason for the later looks.
        fixture.append("y.log", "line\n");
        looks += 1;
        assert!(looks <= 8, "the edit was not found");
    }
    assert!(looks > 0, "the budget was kept");
    assert!(fixture.members()[&b"x.log"[..]] == fixture.logs()[&b"x.log"[..]]);
}

#[test]
fn looks_without_publication_compare_too() {
    let (fixture, mut archiver) = edited(&["--compare-bytes=1MiB", "--publish-percent=50"]);
    for _ in 0..9 {
        archiver.cycle(at(NOON), CycleMode::WhenWorthIt).unwrap();
        fixture.append("y.log", "line\n");
    }
    cycle(&mut archiver);
    assert!(fixture.members()[&b"x.log"[..]] == fixture.logs()[&b"x.log"[..]]);
}

#[test]
fn finished_day_is_compared_in_full() {
    let (fixture, mut archiver) = edited(&["--compare-bytes=1"]);
    cycle(&mut archiver);
    let log = std::fs::read(fixture.log("x.log")).unwrap();
    assert!(fixture.members()[&b"x.log"[..]] != log, "not found yet");
    archiver.cycle(at("2026-11-22T00:00:10Z"), CycleMode::WhenWorthIt).unwrap();
    assert!(members(&fixture.archives()[0])[&b"x.log"[..]] == log);
}

#[test]
fn once_compares_in_full() {
    let fixture = Fixture::new(&["--compare-bytes=1"]);
    fixture.write("x.log", log_lines(&mut Rng::with_seed(4), LOG_BYTES));
    assert!(fixture.once().status.success());
    edit(&fixture);
    assert!(fixture.once().status.success());
    assert!(fixture.members()[&b"x.log"[..]] == fixture.logs()[&b"x.log"[..]]);
}
