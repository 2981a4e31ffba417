//! Rotation: bounds on each file and on all of them, and changes to the file by others.

use crate::client::{self, send};
use crate::daemon::{Logd, Setup};
use crate::marked_lines::content;
use std::io::Write;
use std::path::Path;
use trial::wait_until;

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Waits until there are `rotated` rotated files, all compressed.
fn settled(logd: &Logd, rotated: usize) {
    wait_until("the rotated files are in order", || {
        let mut files = logd.files();
        files.pop();
        files.len() == rotated && files.iter().all(|path| is_gz(path))
    });
}

fn all(logd: &Logd) -> Vec<u8> {
    logd.files().iter().flat_map(|path| content(path)).collect()
}

/// Returns numbered lines of 100 bytes.
fn lines(numbers: std::ops::Range<usize>) -> Vec<u8> {
    numbers.flat_map(|number| format!("{number:099}\n").into_bytes()).collect()
}

#[test]
fn rotation_keeps_every_line_once() {
    let logd = Logd::start(&["--rotate-bytes", "200000", "--no-gzip"]);
    for batch in 0..100 {
        send(logd.address(), &lines(batch * 100..(batch + 1) * 100)).unwrap();
    }
    let files = logd.files();
    for path in &files {
        let bytes = path.metadata().unwrap().len();
        assert!(bytes <= 200_000, "{} has {bytes} bytes", path.display());
    }
    assert!((5..=6).contains(&files.len()), "{files:?}");
    assert!(all(&logd) == lines(0..10_000));
    assert_eq!(logd.metric("rotations_total"), files.len() as u64 - 1);
}

#[test]
fn oversized_batch_has_its_own_file() {
    let logd = Logd::start(&["--rotate-bytes", "1000", "--no-gzip"]);
    send(logd.address(), b"before\n").unwrap();
    let line = [&b"x".repeat(5_000)[..], b"\n"].concat();
    send(logd.address(), &line).unwrap();
    send(logd.address(), b"after\n").unwrap();
    let contents: Vec<_> = logd.files().iter().map(|path| content(path)).collect();
    assert_eq!(contents, [b"before\n".to_vec(), line, b"after\n".to_vec()]);
}

#[test]
fn old_file_is_rotated_with_the_next_line() {
    let logd = Logd::start(&["--rotate-age", "50ms", "--no-gzip"]);
    let mut sent = 0;
    wait_until("it was rotated three times", || {
        send(logd.address(), format!("{sent}\n").as_bytes()).unwrap();
        sent += 1;
        logd.metric("rotations_total") >= 3
    });
    let expected: String = (0..sent).map(|number| format!("{number}\n")).collect();
    assert_eq!(all(&logd), expected.into_bytes());
    assert!(logd.files().iter().all(|path| path.metadata().unwrap().len() > 0));
}

#[test]
fn keep_files_bounds_the_files() {
    let logd = Logd::start(&["--rotate-bytes", "1000", "--keep-files", "3"]);
    for number in 0..10 {
        send(logd.address(), &lines(number * 10..number * 10 + 10)).unwrap();
    }
    settled(&logd, 3);
    wait_until("it is counted", || logd.metric("removed_files_total") == 6);
    assert_eq!(logd.metric("rotated_files"), 3);
    assert!(all(&logd) == lines(60..100), "the newest are kept");
}

#[test]
fn keep_bytes_bounds_the_bytes() {
    let logd =
        Logd::start(&["--rotate-bytes", "1000", "--keep-files", "0", "--keep-bytes", "3500", "--no-gzip"]);
    for number in 0..10 {
        send(logd.address(), &lines(number * 10..number * 10 + 10)).unwrap();
    }
    wait_until("the oldest are gone", || logd.files().len() == 4);
    wait_until("it is counted", || logd.metric("rotated_bytes") == 3000);
    assert!(all(&logd) == lines(60..100), "the newest are kept");
}

#[test]
fn restart_continues_numbers_and_compression() {
    let mut logd = Logd::start(&["--rotate-bytes", "1000"]);
    for number in 0..3 {
        send(logd.address(), &lines(number * 10..number * 10 + 10)).unwrap();
    }
    settled(&logd, 2);
    logd.kill9();
    // Simulate the leftovers of a crash: a rotated file that is not compressed yet, next to half a copy.
    let left = logd.path("node_log.000003-20260101T000000Z");
    std::fs::rename(logd.path("node_log"), &left).unwrap();
    std::fs::write(logd.path(".node_log.000003-20260101T000000Z.gz.new"), "half").unwrap();
    std::fs::write(logd.path("node_log.000003-20260101T000000Z.gz"), "half").unwrap();
    logd.restart();
    settled(&logd, 3);
    for number in 3..5 {
        send(logd.address(), &lines(number * 10..number * 10 + 10)).unwrap();
    }
    settled(&logd, 4);
    assert!(logd.files()[3].to_str().unwrap().contains("node_log.000004-"), "{:?}", logd.files());
    assert!(all(&logd) == lines(0..50));
}

#[test]
fn sync_never_holds_no_rotated_file() {
    let logd = Logd::start(&["--sync", "never", "--rotate-bytes", "1000", "--keep-files", "2"]);
    let before = logd.descriptors();
    for number in 0..10 {
        send(logd.address(), &lines(number * 10..number * 10 + 10)).unwrap();
    }
    wait_until("the others are removed", || logd.metric("removed_files_total") == 7);
    wait_until("nothing is held open", || logd.descriptors() <= before);
}

#[test]
fn power_loss_is_repaired_in_rotated_files() {
    let setup = Setup::new().arguments(&["--no-gzip", "--keep-files", "100"]);
    for number in 1..=100 {
        setup.write(&format!("node_log.{number:06}-20260101T000000Z"), b"whole\nhal\0\0\0");
    }
    let logd = setup.start();
    assert!(all(&logd) == b"whole\nhal\n".repeat(100));
    assert_eq!(logd.metric("torn_tails_total"), 1);
}

#[test]
fn removed_file_is_made_again() {
    let logd = Logd::start(&[]);
    send(logd.address(), b"before\n").unwrap();
    std::fs::remove_file(logd.path("node_log")).unwrap();
    wait_until("there is a new file", || {
        send(logd.address(), b"after\n").unwrap();
        logd.path("node_log").exists()
    });
    send(logd.address(), b"last\n").unwrap();
    assert!(logd.file().ends_with(b"after\nlast\n"));
    assert_eq!(logd.metric("reopened_total"), 1);
}

#[test]
fn truncated_file_is_continued() {
    let logd = Logd::start(&[]);
    send(logd.address(), &lines(0..100)).unwrap();
    std::fs::OpenOptions::new().write(true).truncate(true).open(logd.path("node_log")).unwrap();
    send(logd.address(), b"after\n").unwrap();
    assert_eq!(logd.file(), b"after\n");
}

#[test]
fn compression_delays_nothing() {
    let setup = Setup::new();
    // Holes take no space, but their compression takes minutes.
    let large = std::fs::File::create(setup.path("node_log.000001-20260101T000000Z")).unwrap();
    large.set_len(256 * 1024 * 1024 * 1024).unwrap();
    let logd = setup.arguments(&["--keep-bytes", "0"]).start();
    wait_until("it compresses", || logd.path(".node_log.000001-20260101T000000Z.gz.new").exists());
    std::fs::rename(logd.path("node_log"), logd.path("moved")).unwrap();
    logd.signal(nix::sys::signal::Signal::SIGHUP);
    wait_until("the file was opened anew", || logd.metric("reopened_total") == 1);
    assert_eq!(logd.terminate().code(), Some(0));
    assert!(!logd.path("node_log.000001-20260101T000000Z.gz").exists(), "it waited for the compression");
}

#[test]
fn failed_rotation_is_retried() {
    let logd = Logd::start(&["--rotate-bytes", "1000", "--no-gzip"]);
    let mut stream = client::connect(logd.address());
    stream.write_all(&lines(0..5)).unwrap();
    wait_until("the lines are in the file", || logd.file() == lines(0..5));
    // No descriptor is left for the new file.
    logd.limit(nix::sys::resource::Resource::RLIMIT_NOFILE, 3);
    stream.write_all(&lines(5..15)).unwrap();
    wait_until("the lines are in the file, which could not be rotated", || logd.file() == lines(0..15));
    logd.limit(nix::sys::resource::Resource::RLIMIT_NOFILE, 1024);
    let mut next = 15;
    wait_until("it is rotated after all", || {
        stream.write_all(&lines(next..next + 1)).unwrap();
        next += 1;
        logd.files().len() > 1
    });
    client::receipt(stream).unwrap();
    assert!(logd.metric("rotation_errors_total") >= 1);
    assert!(all(&logd) == lines(0..next));
}
