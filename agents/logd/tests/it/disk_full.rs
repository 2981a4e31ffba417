//! Full disks: simulated by a limit on the size of files, or by `--min-free`.

use crate::client;
use crate::daemon::{Logd, Setup};
use crate::marked_lines::MarkedLines;
use nix::sys::resource::Resource;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::wait_until;

/// Each connection alone sends more than `FILE_BYTES_MAX` bytes.
const TORRENT: MarkedLines = MarkedLines { connections: 8, lines: 2_000 };
/// The size at which the file fills the simulated disk.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const UNLIMITED: u64 = nix::libc::RLIM_INFINITY;
/// The system's error for a write beyond the limit.
const TOO_LARGE: &str = "File too large";

#[test]
fn full_disk_holds_senders_back() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    logd.limit(Resource::RLIMIT_FSIZE, FILE_BYTES_MAX);
    let receipts = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            TORRENT.send(logd.address());
            receipts.store(true, Ordering::Relaxed);
        });
        wait_until("it says that the disk is full", || logd.cannot_write(TOO_LARGE));
        assert_eq!((logd.metric("blocked"), logd.metric("receipts_total")), (1, 0));
        assert_eq!(logd.admin("GET", "/live").0, 200, "it is no reason to be restarted");
        let errors = logd.metric("write_errors_total");
        wait_until("it tried again", || {
            let file = logd.file();
            assert!(file.len() as u64 <= FILE_BYTES_MAX);
            logd.metric("write_errors_total") > errors + 3
        });
        // A failed attempt may leave half a line in the file for a moment. logd then removes it.
        wait_until("the file ends with a whole line", || logd.file().ends_with(b"\n"));
        assert!(!receipts.load(Ordering::Relaxed) && logd.cannot_write(TOO_LARGE));
        logd.limit(Resource::RLIMIT_FSIZE, UNLIMITED);
    });
    assert_eq!((logd.ready().0, logd.metric("blocked"), logd.metric("pending_bytes")), (200, 0, 0));
    TORRENT.check(&logd.files(), <[u8]>::to_vec);
}

#[test]
fn unwritten_line_gets_no_receipt() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    client::send(logd.address(), &b"before\n".repeat(100)).unwrap();
    logd.limit(Resource::RLIMIT_FSIZE, 710);
    let received = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            // logd writes a last line without a newline only after the half-close. That write finds the disk
            // full.
            scope.spawn(|| {
                client::send(logd.address(), b"after the disk was full").unwrap();
                received.fetch_add(1, Ordering::Relaxed);
            });
        }
        wait_until("it says that the disk is full", || logd.cannot_write(TOO_LARGE));
        let errors = logd.metric("write_errors_total");
        wait_until("it tried again", || logd.metric("write_errors_total") > errors);
        assert_eq!(received.load(Ordering::Relaxed), 0);
        logd.limit(Resource::RLIMIT_FSIZE, UNLIMITED);
    });
    assert_eq!(logd.file()[700..], b"after the disk was full\n".repeat(10));
}

#[test]
fn lines_waiting_for_the_disk_are_bounded() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    let mut idle: Vec<_> = (0..300).map(|_| client::connect(logd.address())).collect();
    wait_until("all are served", || logd.metric("connections_open") == 300);
    logd.limit(Resource::RLIMIT_FSIZE, FILE_BYTES_MAX);
    std::thread::scope(|scope| {
        scope.spawn(|| client::send(logd.address(), &b"filler\n".repeat(100_000)).unwrap());
        wait_until("it says that the disk is full", || logd.cannot_write(TOO_LARGE));
        for stream in &mut idle {
            stream.write_all(&b"one more\n".repeat(7_000)).unwrap();
        }
        logd.turn();
        let pending = logd.metric("pending_bytes");
        assert!((1..1_000_000).contains(&pending), "{pending} bytes in memory");
        logd.limit(Resource::RLIMIT_FSIZE, UNLIMITED);
    });
    for stream in idle {
        client::receipt(stream).unwrap();
    }
    assert_eq!(logd.metric("lines_total"), 100_000 + 300 * 7_000);
}

#[test]
fn min_free_holds_senders_back() {
    let setup = Setup::new().arguments(&["--config", "logd.toml"]);
    setup.write("logd.toml", "min-free = \"16EiB\"\n");
    let logd = setup.start();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| client::send(logd.address(), b"line\n"));
        wait_until("it says why", || logd.ready().1.contains("less than --min-free"));
        assert!(!held.is_finished() && logd.ready().0 == 503 && logd.file().is_empty());
        std::fs::write(logd.path("logd.toml"), "min-free = \"0%\"\n").unwrap();
        held.join().unwrap().unwrap();
    });
    assert_eq!((logd.file(), logd.ready().0), (b"line\n".to_vec(), 200));
}

#[test]
fn min_free_removes_the_oldest_files() {
    let setup = Setup::new().arguments(&["--config", "logd.toml"]);
    setup.write("logd.toml", "");
    for number in 1..=3 {
        setup.write(&format!("node_log.{number:06}-20260101T000000Z.gz"), b"old");
    }
    let logd = setup.start();
    client::send(logd.address(), b"line\n").unwrap();
    assert_eq!(logd.files().len(), 4);
    std::fs::write(logd.path("logd.toml"), "min-free = \"16EiB\"\n").unwrap();
    wait_until("it is applied", || logd.says("settings_reloaded"));
    let address = logd.address();
    // The change is logged a moment before it is applied.
    let held = std::thread::spawn(move || while client::send(address, b"held\n").is_ok() {});
    wait_until("they are removed", || logd.files().len() == 1 && logd.metric("removed_files_total") == 3);
    logd.kill9();
    held.join().unwrap();
}

#[test]
fn ending_on_a_full_disk_gives_no_receipt() {
    let mut logd = Logd::start(&["--rotate-bytes", "0", "--drain-timeout", "1s"]);
    logd.limit(Resource::RLIMIT_FSIZE, FILE_BYTES_MAX);
    let address = logd.address();
    let sender = std::thread::spawn(move || client::send(address, &b"filler\n".repeat(1_000_000)));
    wait_until("it says that the disk is full", || logd.cannot_write(TOO_LARGE));
    assert_eq!(logd.terminate().code(), Some(75));
    let error = sender.join().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    let file = logd.file();
    assert!(file.split_inclusive(|b| *b == b'\n').all(|line| line == b"filler\n"), "a torn line");
    logd.restart();
    assert_eq!((logd.metric("torn_tails_total"), logd.ready().0), (0, 200));
}

#[test]
fn crash_on_a_full_disk_leaves_one_tail() {
    let mut logd = Logd::start(&["--rotate-bytes", "0"]);
    for _ in 0..5 {
        logd.limit(Resource::RLIMIT_FSIZE, logd.metric("file_bytes") + 100_001);
        let address = logd.address();
        let sender = std::thread::spawn(move || client::send(address, &b"0123456789\n".repeat(1_000_000)));
        wait_until("it says that the disk is full", || logd.cannot_write(TOO_LARGE));
        logd.kill9();
        sender.join().unwrap().unwrap_err();
        logd.restart();
    }
    let file = logd.file();
    let torn = file.split(|b| *b == b'\n').filter(|line| !line.is_empty() && *line != b"0123456789").count();
    assert!(torn <= 5, "{torn} torn lines");
}
