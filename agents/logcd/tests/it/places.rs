//! Directories that are removed, moved or replaced under a running logcd: it reports that and recovers by
//! itself.

use crate::support::Setup;
use crate::support::daemon::Daemon;
use std::fs;
use std::path::PathBuf;
use trial::wait_until;

/// Flags with which only a moved directory or an event of the kernel causes a look.
const QUICK: [&str; 4] = ["--admin=127.0.0.1:0", "--interval=20ms", "--publish-within=20ms", "--poll=1h"];

/// Starts a daemon that has archived one log and has nothing to do.
fn idle() -> (Setup, Daemon) {
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    let daemon = Daemon::start(&setup, &QUICK);
    daemon.wait_until_ready();
    wait_until("an idle tick", || daemon.metric("logcd_idle_ticks_total") > 0.0);
    (setup, daemon)
}

fn wait_for_reason(daemon: &Daemon, reason: &str) {
    wait_until(reason, || {
        let (status, why) = daemon.get("/ready");
        status == 503 && why.contains(reason)
    });
}

fn away(setup: &Setup) -> PathBuf {
    setup.root.path().join("away")
}

/// True if the archive equals the logs.
fn is_archived(setup: &Setup) -> bool {
    setup.archives().len() == 1 && setup.members() == setup.logs()
}

#[test]
fn removed_archive_directory_is_reported_until_it_is_back() {
    let (setup, daemon) = idle();
    fs::remove_dir_all(setup.out()).unwrap();
    wait_for_reason(&daemon, "the directory for archives, ");
    assert!(daemon.metric("logcd_cycles_total{result=\"failed\"}") > 0.0);
    fs::create_dir(setup.out()).unwrap();
    daemon.wait_until_ready();
    assert!(is_archived(&setup));
}

#[test]
fn moved_archive_directory_gets_no_more_archives() {
    let (setup, daemon) = idle();
    fs::rename(setup.out(), away(&setup)).unwrap();
    wait_for_reason(&daemon, "the directory for archives, ");
    let before = fs::read_dir(away(&setup)).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let before: Vec<u64> = before.collect();
    setup.append("x.log", "more\n");
    let failed = || daemon.metric("logcd_cycles_total{result=\"failed\"}");
    let so_far = failed();
    wait_until("more failed looks", || failed() > so_far + 2.0);
    let after = fs::read_dir(away(&setup)).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert_eq!(after.collect::<Vec<_>>(), before, "nothing was written to where it is now");
    fs::rename(away(&setup), setup.out()).unwrap();
    daemon.wait_until_ready();
    assert!(is_archived(&setup));
}

#[test]
fn replaced_archive_directory_is_taken_with_its_lock() {
    let (setup, daemon) = idle();
    fs::create_dir(setup.root.path().join("fresh")).unwrap();
    fs::rename(setup.out(), away(&setup)).unwrap();
    fs::rename(setup.root.path().join("fresh"), setup.out()).unwrap();
    wait_until("an archive in the new directory", || is_archived(&setup));
    daemon.wait_until_ready();
    assert_eq!(setup.once().status.code(), Some(75), "the new directory is locked");
    let old = logcd::archive_dir::LockedArchiveDir::take(&away(&setup).canonicalize().unwrap(), 0o600);
    assert!(old.is_ok(), "the old directory is not locked any more: {old:?}");
}

#[test]
fn removed_lock_is_made_again() {
    let (setup, daemon) = idle();
    let lock = setup.out().join(".logcd.lock");
    fs::remove_file(&lock).unwrap();
    wait_until("the lock", || lock.exists());
    daemon.wait_until_ready();
    // The file is there a moment before it is locked.
    wait_until("no second logcd works here", || setup.once().status.code() == Some(75));
}

#[test]
fn removed_log_directory_is_reported_until_it_is_back() {
    let (setup, daemon) = idle();
    let log = setup.root.path().join("log");
    fs::remove_dir_all(&log).unwrap();
    wait_for_reason(&daemon, "cannot open the log directory");
    fs::create_dir(&log).unwrap();
    setup.write("y.log", "new\n");
    daemon.wait_until_ready();
    // A look may come between the directory and its log.
    wait_until("the new log", || setup.members().get(&b"y.log"[..]).is_some_and(|held| held == b"new\n"));
}

#[test]
fn replaced_log_directory_is_archived_like_the_one_before() {
    let (setup, daemon) = idle();
    let log = setup.root.path().join("log");
    fs::create_dir(setup.root.path().join("fresh")).unwrap();
    fs::rename(&log, away(&setup)).unwrap();
    fs::rename(setup.root.path().join("fresh"), &log).unwrap();
    wait_until("the logs to be gone", || daemon.metric("logcd_files") == 0.0);
    // The kernel reports changes of the new directory.
    setup.write("y.log", "new\n");
    wait_until("the new log", || setup.members().get(&b"y.log"[..]).is_some_and(|held| held == b"new\n"));
}

#[test]
fn directory_without_logs_is_warned_of_once() {
    let setup = Setup::new(&[]);
    setup.write("x.txt", "no log\n");
    let daemon = Daemon::start(&setup, &QUICK);
    let is_empty = |expected: f64| {
        wait_until("the metric", || daemon.metric("logcd_empty_directories") == expected);
    };
    daemon.wait_until_ready();
    is_empty(1.0);
    setup.append("x.txt", "and again a look\n");
    setup.write("x.log", "a log\n");
    is_empty(0.0);
    fs::remove_file(setup.log("x.log")).unwrap();
    is_empty(1.0);
    let (_, said) = daemon.stop();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("directory_unmatched")).collect();
    assert_eq!(warnings.len(), 2, "once, and again after there was a log: {said}");
    assert!(warnings[0].contains("x.txt") && warnings[0].contains("--recursive"), "{}", warnings[0]);
}
