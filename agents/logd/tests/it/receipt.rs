//! A sender that has read a clean end knows that everything is in the file, whatever happens to the daemon
//! afterwards.

use crate::client::{self, send};
use crate::daemon::Logd;
use fastrand::Rng;
use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use trial::wait_until;

const SENDERS: usize = 8;
const ROUNDS: usize = 50;
/// The first line of a sender that wants to read its receipt.
const REQUEST: &[u8] = b"LOGD-RECEIPT 1\n";

/// Returns a line that shows if it is complete: its name, filler, its length.
fn line(name: &str, filler: usize) -> String {
    format!("{name} {} {filler}.", "=".repeat(filler))
}

fn is_whole(text: &str) -> bool {
    let mut parts = text.split(' ');
    let (Some(_), Some(filler), Some(end), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    end == format!("{}.", filler.len())
}

/// Sends over short connections until `stop` is set, and returns the names of all lines that got a receipt.
fn send_short_connections(
    address: SocketAddr,
    name: &str,
    stop: &AtomicBool,
    receipts: &AtomicUsize,
) -> Vec<String> {
    let mut rng = Rng::new();
    let mut safe = Vec::new();
    for connection in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let names: Vec<_> =
            (0..rng.usize(1..20)).map(|number| format!("{name}-{connection}-{number}")).collect();
        // Some texts are much longer, so that the end may come in the middle of a write.
        let longest = if rng.u8(..) < 16 { 60_000 } else { 500 };
        let mut text: String = names.iter().map(|name| line(name, rng.usize(..longest)) + "\n").collect();
        if rng.bool() {
            text.pop(); // the last newline is the daemon's to add
        }
        if send(address, text.as_bytes()).is_ok() {
            safe.extend(names);
            receipts.fetch_add(1, Ordering::Relaxed);
        }
    }
    safe
}

/// Returns the names of the whole lines, and the number of torn lines. No line may be there twice.
fn read_back(logd: &Logd) -> (HashSet<String>, u64) {
    let text = String::from_utf8(logd.file()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the file ends within a line");
    let (mut names, mut torn) = (HashSet::new(), 0);
    for line in text.lines() {
        if is_whole(line) {
            let name = line.split(' ').next().unwrap().to_owned();
            assert!(names.insert(name), "twice: {line}");
        } else {
            torn += 1;
        }
    }
    (names, torn)
}

fn assert_none_is_missing(safe: &[String], there: &HashSet<String>) {
    let missing: Vec<_> = safe.iter().filter(|name| !there.contains(*name)).collect();
    assert!(
        missing.is_empty(),
        "{} of {} with a receipt are missing: {missing:?}",
        missing.len(),
        safe.len()
    );
}

#[test]
fn no_line_with_a_receipt_is_lost_when_the_daemon_is_killed() {
    let mut logd = Logd::start(&["--rotate-bytes", "0"]);
    let (mut rng, mut safe, mut closed) = (Rng::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let (stop, receipts, collected) =
            (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(&mut safe));
        let address = logd.address();
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (stop, receipts, collected) = (&stop, &receipts, &collected);
                scope.spawn(move || {
                    let name = format!("{round}-{sender}");
                    let names = send_short_connections(address, &name, stop, receipts);
                    collected.lock().unwrap().extend(names);
                });
            }
            let enough = rng.usize(1..300);
            while receipts.load(Ordering::Relaxed) < enough {
                std::thread::yield_now();
            }
            logd.kill9();
            stop.store(true, Ordering::Relaxed);
        });
        logd.restart();
        let torn = logd.metric("torn_tails_total");
        assert!(torn <= 1);
        closed += torn;
    }
    let (there, torn) = read_back(&logd);
    assert_none_is_missing(&safe, &there);
    assert_eq!(torn, closed, "every line that is not whole was found and counted at a start");
    assert!(safe.len() > ROUNDS);
}

#[test]
fn the_half_line_of_a_crash_is_closed_at_the_next_start() {
    let mut logd = Logd::start(&[]);
    send(logd.address(), b"whole\n").unwrap();
    logd.kill9();
    let mut file = std::fs::OpenOptions::new().append(true).open(logd.path("node_log")).unwrap();
    file.write_all(b"hal").unwrap();
    logd.restart();
    assert_eq!(logd.metric("torn_tails_total"), 1);
    send(logd.address(), b"next\n").unwrap();
    assert_eq!(logd.file(), b"whole\nhal\nnext\n");
    logd.kill9();
    logd.restart();
    assert_eq!(logd.metric("torn_tails_total"), 0);
}

/// Requests a readable receipt, half-closes, and returns the bytes that precede an orderly end.
fn ask_for_receipt(address: SocketAddr, payload: &[u8]) -> io::Result<String> {
    let mut stream = client::connect(address);
    stream.write_all(&[REQUEST, payload].concat())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn who_asks_for_a_receipt_in_words_is_told_how_many_bytes_are_kept() {
    for sync in ["1s", "always"] {
        let logd = Logd::start(&["--sync", sync]);
        for (payload, bytes) in [(&b""[..], 0), (b"one\ntwo", 7), (b"9 <13>first10 <13>second", 24)] {
            let answer = ask_for_receipt(logd.address(), payload).unwrap();
            assert_eq!(answer, format!("LOGD-RECEIPT 1 {bytes}\n"));
        }
        assert_eq!(logd.file(), b"one\ntwo\n<13>first\n<13>second\n");
        assert_eq!(ask_for_receipt(logd.address(), REQUEST).unwrap(), "LOGD-RECEIPT 1 15\n");
        assert!(logd.file().ends_with(REQUEST), "only the first line is a request");
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let logd = Logd::start(&[]);
    let mut stream = client::connect(logd.address());
    for (received, byte) in [REQUEST, b"line\n"].concat().iter().enumerate() {
        stream.write_all(&[*byte]).unwrap();
        wait_until("the byte has arrived", || logd.metric("received_bytes_total") == received as u64 + 1);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!((answer.as_str(), logd.file()), ("LOGD-RECEIPT 1 5\n", b"line\n".to_vec()));
}

#[test]
fn removed_rotated_file_keeps_its_receipt() {
    let logd = Logd::start(&["--rotate-bytes", "10", "--sync", "always", "--no-gzip"]);
    let mut stream = client::connect(logd.address());
    stream.write_all(b"removed\n").unwrap();
    wait_until("it is written", || logd.file() == b"removed\n");
    stream.write_all(b"kept\n").unwrap();
    wait_until("the file is rotated", || logd.file() == b"kept\n");
    for entry in std::fs::read_dir(logd.path("")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("node_log.") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    client::receipt(stream).unwrap();
    assert_eq!(logd.file(), b"kept\n");
}

#[test]
fn no_receipt_no_answer() {
    let logd = Logd::start(&["--idle-timeout", "2s"]);
    let mut stream = client::connect(logd.address());
    stream.write_all(&[REQUEST, b"line\n"].concat()).unwrap();
    assert!(client::is_reset(&client::end(&mut stream).unwrap_err()));
    assert_eq!(logd.file(), b"line\n");
}

#[test]
fn killed_daemon_resets_waiting_senders() {
    let logd = Logd::start(&[]);
    let mut open: Vec<_> = (0..20).map(|_| client::connect(logd.address())).collect();
    for stream in &mut open {
        stream.write_all(b"line\n").unwrap();
    }
    wait_until("all are served", || logd.metric("lines_total") == 20);
    logd.kill9();
    for mut stream in open {
        assert!(client::is_reset(&client::end(&mut stream).unwrap_err()));
    }
}

#[test]
fn sigterm_keeps_every_receipted_line() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    let mut idle: Vec<_> = (0..10).map(|_| client::connect(logd.address())).collect();
    for (number, stream) in idle.iter_mut().enumerate() {
        writeln!(stream, "{}", line(&format!("idle-{number}"), 10)).unwrap();
    }
    let (stop, receipts, safe) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let address = logd.address();
    let status = std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (stop, receipts, safe) = (&stop, &receipts, &safe);
            scope.spawn(move || {
                let names = send_short_connections(address, &sender.to_string(), stop, receipts);
                safe.lock().unwrap().extend(names);
            });
        }
        wait_until("there is some load", || receipts.load(Ordering::Relaxed) > 100);
        let status = logd.terminate();
        stop.store(true, Ordering::Relaxed);
        status
    });
    assert_eq!(status.code(), Some(0));
    assert!(!logd.says("drain_timed_out"));
    for mut stream in idle {
        assert!(client::is_reset(&client::end(&mut stream).unwrap_err()), "an open connection got a receipt");
    }
    let (there, torn) = read_back(&logd);
    assert_eq!(torn, 0);
    assert_none_is_missing(&safe.into_inner().unwrap(), &there);
    assert!((0..10).all(|number| there.contains(&format!("idle-{number}"))));
}

#[test]
fn endless_sender_is_reset_after_the_drain() {
    let logd = Logd::start(&["--drain-timeout", "2s"]);
    let mut flood = client::connect(logd.address());
    let flooding = std::thread::spawn(move || {
        let text = b"flood\n".repeat(100);
        let mut write = || {
            std::thread::park_timeout(Duration::from_millis(1)); // gigabytes would prove no more
            flood.write_all(&text)
        };
        std::iter::repeat_with(&mut write).find_map(Result::err).unwrap()
    });
    wait_until("it floods", || logd.metric("lines_total") > 1_000);
    assert_eq!(logd.terminate().code(), Some(0));
    assert!(logd.says("drain_timed_out"));
    // After a clean end, writing would fail with a broken pipe.
    assert_eq!(flooding.join().unwrap().kind(), ErrorKind::ConnectionReset);
    assert!(logd.file().ends_with(b"flood\n"));
}
