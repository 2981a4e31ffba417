//! A file that is removed under the daemon, alone or with its directory: unreadable lines get no receipt.

use crate::client::{self, send};
use crate::daemon::{Logd, Setup};
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use trial::wait_until;

const FILE: &str = "logs/node_log";

fn start(sync: &str) -> Logd {
    Logd::start(&["--file", FILE, "--sync", sync])
}

fn text(logd: &Logd) -> String {
    fs::read_to_string(logd.path(FILE)).unwrap()
}

/// Waits until `/ready` answers 503 with this reason.
fn not_ready(logd: &Logd, why: &str) {
    logd.wait_until(why, || {
        let (status, reasons) = logd.ready();
        status == 503 && reasons.contains(why)
    });
}

fn ready(logd: &Logd) {
    logd.wait_until("it is ready again", || logd.ready().0 == 200);
}

#[test]
fn removed_directory_stops_receipts() {
    for sync in ["always", "1s", "never"] {
        let logd = start(sync);
        send(logd.address(), b"before\n").unwrap();
        fs::remove_dir_all(logd.path("logs")).unwrap();
        assert!(client::is_reset(&send(logd.address(), b"refused\n").unwrap_err()), "{sync}");
        not_ready(&logd, "no new one can be created: No such file or directory");
        assert!(client::is_reset(&send(logd.address(), b"again\n").unwrap_err()), "as long as it lasts");
        assert_eq!((logd.metric("blocked"), logd.metric("receipts_total")), (1, 1));
        assert_eq!(logd.admin("GET", "/live").0, 200, "it is no reason to be restarted");
        let mut held = client::connect(logd.address());
        held.write_all(b"held back\n").unwrap();
        wait_until("it is connected", || logd.metric("connections_open") == 1);
        fs::create_dir(logd.path("logs")).unwrap();
        ready(&logd);
        client::receipt(held).unwrap();
        assert_eq!(text(&logd), "before\nrefused\nheld back\n");
        assert_eq!((logd.metric("reopened_total"), logd.metric("carried_over_bytes_total")), (1, 7));
        logd.counts("resets_total{reason=\"not_safe\"}", 2);
    }
}

#[test]
fn lines_of_a_lost_directory_get_no_receipt() {
    let logd = start("always");
    let mut early = client::connect(logd.address());
    early.write_all(b"early\n").unwrap();
    logd.wait_until("the line is in the file", || text(&logd) == "early\n");
    fs::remove_dir_all(logd.path("logs")).unwrap();
    assert!(client::is_reset(&client::receipt(early).unwrap_err()));
    fs::create_dir(logd.path("logs")).unwrap();
    ready(&logd);
    assert_eq!(text(&logd), "early\n");
}

#[test]
fn replaced_directory_gets_every_line() {
    let logd = start("1s");
    let lines = b"a line\n".repeat(2_000_000);
    send(logd.address(), &lines).unwrap();
    fs::remove_dir_all(logd.path("logs")).unwrap();
    fs::create_dir(logd.path("logs")).unwrap();
    send(logd.address(), b"after\n").unwrap();
    assert!(fs::read(logd.path(FILE)).unwrap() == [&lines[..], b"after\n"].concat());
}

#[test]
fn directory_moved_back_is_continued() {
    let logd = start("1s");
    send(logd.address(), b"before\n").unwrap();
    fs::rename(logd.path("logs"), logd.path("elsewhere")).unwrap();
    send(logd.address(), b"refused\n").unwrap_err();
    logd.signal(Signal::SIGHUP);
    not_ready(&logd, "no new one can be created");
    fs::rename(logd.path("elsewhere"), logd.path("logs")).unwrap();
    ready(&logd);
    assert_eq!(text(&logd), "before\nrefused\n");
    assert_eq!(logd.metric("reopened_total"), 0);
}

#[test]
fn removed_file_is_carried_over() {
    let logd = start("1s");
    send(logd.address(), b"before\n").unwrap();
    fs::remove_file(logd.path(FILE)).unwrap();
    fs::create_dir(logd.path(FILE)).unwrap();
    assert!(client::is_reset(&send(logd.address(), b"refused\n").unwrap_err()));
    not_ready(&logd, "no new one can be created: Is a directory");
    fs::remove_dir(logd.path(FILE)).unwrap();
    ready(&logd);
    assert_eq!(text(&logd), "before\nrefused\n");
}

#[test]
fn full_disk_delays_carrying_over() {
    let logd = start("1s");
    let lines = b"a line\n".repeat(1000);
    send(logd.address(), &lines).unwrap();
    logd.limit(Resource::RLIMIT_FSIZE, 500);
    fs::remove_dir_all(logd.path("logs")).unwrap();
    fs::create_dir(logd.path("logs")).unwrap();
    assert!(client::is_reset(&send(logd.address(), b"after\n").unwrap_err()));
    not_ready(&logd, "cannot copy the lines of the removed file into the new one: File too large");
    // The successor is removed, too.
    fs::remove_dir_all(logd.path("logs")).unwrap();
    not_ready(&logd, "no new one can be created");
    logd.limit(Resource::RLIMIT_FSIZE, nix::libc::RLIM_INFINITY);
    fs::create_dir(logd.path("logs")).unwrap();
    ready(&logd);
    assert_eq!(text(&logd).into_bytes(), [&lines[..], b"after\n"].concat());
}

#[test]
fn no_receipt_before_lines_are_carried_over() {
    let logd = start("1s");
    let mut open = client::connect(logd.address());
    open.write_all(b"written\n").unwrap();
    wait_until("the line is in the file", || text(&logd) == "written\n");
    logd.limit(Resource::RLIMIT_FSIZE, 3);
    fs::remove_dir_all(logd.path("logs")).unwrap();
    fs::create_dir(logd.path("logs")).unwrap();
    open.shutdown(Shutdown::Write).unwrap();
    assert!(client::is_reset(&open.read(&mut [0]).unwrap_err()));
    logd.limit(Resource::RLIMIT_FSIZE, nix::libc::RLIM_INFINITY);
    ready(&logd);
    assert_eq!(text(&logd), "written\n");
}

#[test]
fn directory_of_another_logd_is_left_alone() {
    let logd = start("1s");
    send(logd.address(), b"mine\n").unwrap();
    fs::remove_dir_all(logd.path("logs")).unwrap();
    let theirs = logd.path(FILE);
    let other = Setup::new().arguments(&["--file", theirs.to_str().unwrap()]).start();
    assert!(client::is_reset(&send(logd.address(), b"refused\n").unwrap_err()));
    not_ready(&logd, "another logd (process ");
    send(other.address(), b"theirs\n").unwrap();
    assert_eq!(text(&logd), "theirs\n");
    assert_eq!(other.terminate().code(), Some(0));
    ready(&logd);
    assert_eq!(text(&logd), "theirs\nmine\nrefused\n");
}

#[test]
fn removed_lock_is_made_again() {
    let logd = start("1s");
    let lock = logd.path("logs/.node_log.lock");
    fs::remove_file(&lock).unwrap();
    logd.wait_until("there is a new lock", || {
        send(logd.address(), b"line\n").unwrap();
        lock.exists()
    });
    let second = Setup::new().arguments(&["--file", logd.path(FILE).to_str().unwrap()]).run();
    assert_eq!(second.status.code(), Some(75));
}

#[test]
fn lock_of_another_logd_stops_this_one() {
    let logd = start("1s");
    fs::remove_file(logd.path("logs/.node_log.lock")).unwrap();
    let other = Setup::new().arguments(&["--file", logd.path(FILE).to_str().unwrap()]).start();
    logd.wait_until("it is refused", || send(logd.address(), b"line\n").is_err());
    not_ready(&logd, "another logd (process ");
    drop(other);
    ready(&logd);
    send(logd.address(), b"last\n").unwrap();
    assert!(text(&logd).ends_with("line\nlast\n"));
}

#[test]
fn ending_without_a_file_reports_lost_lines() {
    let logd = start("1s");
    send(logd.address(), b"before\n").unwrap();
    fs::remove_dir_all(logd.path("logs")).unwrap();
    send(logd.address(), b"refused\n").unwrap_err();
    assert_eq!(logd.terminate().code(), Some(75));
}
