//! Directories that are removed, moved or replaced under a running logcd: it reports that and recovers by
//! itself.

use crate::support::Fixture;
use crate::support::daemon::Daemon;
use std::fs;
use std::path::PathBuf;
use trial::wait_until;

/// Flags with which only a moved directory or an event of the kernel causes a look.
const QUICK: [&str; 4] = ["--admin=127.0.0.1:0", "--interval=20ms", "--publish-within=20ms", "--poll=1h"];

/// Starts a daemon that has archived one log and has nothing to do.
fn idle() -> (Fixture, Daemon) {
    let fixture = Fixture::new(&[]);
    fixture.write("x.log", "line\n");
    let daemon = Daemon::start(&fixture, &QUICK);
    daemon.wait_until_ready();
    wait_until("an idle tick", || daemon.metric("logcd_idle_ticks_total") > 0.0);
    (fixture, daemon)
}

fn wait_for_reason(daemon: &Daemon, reason: &str) {
    wait_until(reason, || {
        let (status, why) = daemon.get("/ready");
        status == 503 && why.contains(reason)
    });
}

fn away(fixture: &Fixture) -> PathBuf {
    fixture.root.path().join("away")
}

/// True if the archive equals the logs.
fn is_archived(fixture: &Fixture) -> bool {
    fixture.archives().len() == 1 && fixture.members() == fixture.logs()
}

#[test]
fn removed_archive_directory_is_reported_until_it_is_back() {
    let (fixture, daemon) = idle();
    fs::remove_dir_all(fixture.out()).unwrap();
    wait_for_reason(&daemon, "the directory for archives, ");
    assert!(daemon.metric("logcd_cycles_total{result=\"failed\"}") > 0.0);
    fs::create_dir(fixture.out()).unwrap();
    daemon.wait_until_ready();
    assert!(is_archived(&fixture));
}

#[test]
fn moved_archive_directory_gets_no_more_archives() {
    let (fixture, daemon) = idle();
    fs::rename(fixture.out(), away(&fixture)).unwrap();
    wait_for_reason(&daemon, "the directory for archives, ");
    let before = fs::read_dir(away(&fixture)).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let before: Vec<u64> = before.collect();
    fixture.append("x.log", "more\n");
    let failed = || daemon.metric("logcd_cycles_total{result=\"failed\"}");
    let so_far = failed();
    wait_until("more failed looks", || failed() > so_far + 2.0);
    let after = fs::read_dir(away(&fixture)).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert_eq!(after.collect::<Vec<_>>(), before, "nothing was written to where it is now");
    fs::rename(away(&fixture), fixture.out()).unwrap();
    daemon.wait_until_ready();
    assert!(is_archived(&fixture));
}

#[test]
fn replaced_archive_directory_is_taken_with_its_lock() {
    let (fixture, daemon) = idle();
    fs::create_dir(fixture.root.path().join("fresh")).unwrap();
    fs::rename(fixture.out(), away(&fixture)).unwrap();
    fs::rename(fixture.root.path().join("fresh"), fixture.out()).unwrap();
    wait_until("an archive in the new directory", || is_archived(&fixture));
    daemon.wait_until_ready();
    assert_eq!(fixture.once().status.code(), Some(75), "the new directory is locked");
    let old = logcd::archive_dir::LockedArchiveDir::take(&away(&fixture).canonicalize().unwrap(), 0o600);
    assert!(old.is_ok(), "the old directory is not locked any more: {old:?}");
}

#[test]
fn removed_lock_is_made_again() {
    let (fixture, daemon) = idle();
    let lock = fixture.out().join(".logcd.lock");
    fs::remove_file(&lock).unwrap();
    wait_until("the lock", || lock.exists());
    daemon.wait_until_ready();
    // The file is there a moment before it is locked.
    wait_until("no second logcd works here", || fixture.once().status.code() == Some(75));
}

#[test]
fn removed_log_directory_is_reported_until_it_is_back() {
    let (fixture, daemon) = idle();
    let log = fixture.root.path().join("log");
    fs::remove_dir_all(&log).unwrap();
    wait_for_reason(&daemon, "cannot open the log directory");
    fs::create_dir(&log).unwrap();
    fixture.write("y.log", "new\n");
    daemon.wait_until_ready();
    // A look may come between the directory and its log.
    wait_until("the new log", || fixture.members().get(&b"y.log"[..]).is_some_and(|held| held == b"new\n"));
}

#[test]
fn replaced_log_directory_is_archived_like_the_one_before() {
    let (fixture, daemon) = idle();
    let log = fixture.root.path().join("log");
    fs::create_dir(fixture.root.path().join("fresh")).unwrap();
    fs::rename(&log, away(&fixture)).unwrap();
    fs::rename(fixture.root.path().join("fresh"), &log).unwrap();
    wait_until("the logs to be gone", || daemon.metric("logcd_files") == 0.0);
    // The kernel reports changes of the new directory.
    fixture.write("y.log", "new\n");
    wait_until("the new log", || fixture.members().get(&b"y.log"[..]).is_some_and(|held| held == b"new\n"));
}

#[test]
fn directory_without_logs_is_warned_of_once() {
    let fixture = Fixture::new(&[]);
    fixture.write("x.txt", "no log\n");
    let daemon = Daemon::start(&fixture, &QUICK);
    let is_empty = |expected: f64| {
        wait_until("the metric", || daemon.metric("logcd_empty_directories") == expected);
    };
    daemon.wait_until_ready();
    is_empty(1.0);
    fixture.append("x.txt", "and again a look\n");
    fixture.write("x.log", "a log\n");
    is_empty(0.0);
    fs::remove_file(fixture.log("x.log")).unwrap();
    is_empty(1.0);
    let (_, said) = daemon.stop();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("directory_unmatched")).collect();
    assert_eq!(warnings.len(), 2, "once, and again after there was a log: {said}");
    assert!(warnings[0].contains("x.txt") && warnings[0].contains("--recursive"), "{}", warnings[0]);
}
