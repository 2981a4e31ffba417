//! Peers that are many, greedy, silent or unwelcome.

use crate::client::{connect, end, is_reset, receipt, reset, send};
use crate::daemon::{Logd, Setup};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trial::{connect_from, wait_until, with_soft_descriptors};

const MIB: u64 = 1024 * 1024;

/// Raises the limit of descriptors to the hard limit, for this process and the daemon that it starts.
fn many_descriptors(needed: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard >= needed, "this test needs {needed} descriptors, the hard limit is {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn thousand_idle_connections_fit_in_ten_megabytes() {
    many_descriptors(1_200);
    let logd = Logd::start(&[]);
    let idle: Vec<_> = (0..1_000).map(|_| connect(logd.address())).collect();
    wait_until("all are served", || logd.metric("connections_open") == 1_000);
    // The memory of the connections. The program's text comes on top, 4.5 MiB of it in a release build.
    let memory = logd.memory_bytes("RssAnon");
    assert!(memory < 5 * MIB, "{memory} bytes");
    // Each served connection can still send.
    for mut stream in idle {
        stream.write_all(b"line\n").unwrap();
        receipt(stream).unwrap();
    }
    assert_eq!(logd.file(), b"line\n".repeat(1_000));
}

#[test]
fn soft_descriptor_limit_does_not_bound_connections() {
    many_descriptors(1_200);
    let setup = Setup::new();
    // systemd's default is 1024. This process keeps its own limit: other tests need it.
    let command = with_soft_descriptors(256, &setup.command());
    let logd = setup.start_with(command);
    let idle: Vec<_> = (0..500).map(|_| connect(logd.address())).collect();
    wait_until("all are served", || logd.metric("connections_open") == 500);
    assert_eq!(logd.metric("accept_errors_total"), 0);
    drop(idle);
}

#[test]
fn flood_does_not_starve_a_slow_sender() {
    let logd = Logd::start(&["--sync", "never", "--rotate-bytes", "0"]);
    let (stop, flooded) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let block = b"flood ".repeat(20).into_iter().chain(*b"\n").collect::<Vec<u8>>().repeat(100);
                let mut stream = connect(logd.address());
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&block).unwrap();
                    flooded.fetch_add(block.len() as u64, Ordering::Relaxed);
                }
            });
        }
        let mut slow = connect(logd.address());
        let mut file = File::open(logd.path("node_log")).unwrap();
        let mut seen = Vec::new();
        for number in 0..10 {
            let line = format!("slow {number}\n");
            let before = flooded.load(Ordering::Relaxed);
            wait_until("the flood goes on", || flooded.load(Ordering::Relaxed) > before + MIB);
            let before = flooded.load(Ordering::Relaxed);
            slow.write_all(line.as_bytes()).unwrap();
            loop {
                let meanwhile = flooded.load(Ordering::Relaxed) - before;
                seen.drain(..seen.len().saturating_sub(line.len()));
                file.read_to_end(&mut seen).unwrap();
                if memchr::memmem::find(&seen, line.as_bytes()).is_some() {
                    break;
                }
                assert!(meanwhile < 64 * MIB, "{line:?} is not there after {meanwhile} bytes of flood");
            }
        }
        stop.store(true, Ordering::Relaxed);
        receipt(slow).unwrap();
    });
}

#[test]
fn unread_receipt_delays_nobody() {
    let logd = Logd::start(&[]);
    let mut stream = connect(logd.address());
    stream.write_all(b"line\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    wait_until("the connection is done", || logd.metric("receipts_total") == 1);
    logd.counts("connections_open", 0);
    drop(stream);
}

#[test]
fn idle_peer_is_reset() {
    let logd = Logd::start(&["--idle-timeout", "2s"]);
    let mut stream = connect(logd.address());
    stream.write_all(b"whole\nhalf").unwrap();
    assert!(is_reset(&end(&mut stream).unwrap_err()));
    logd.counts("resets_total{reason=\"idle\"}", 1);
    assert_eq!(logd.file(), b"whole\nhalf\n");
}

#[test]
fn drain_does_not_wait_for_the_idle_timeout() {
    let logd = Logd::start(&["--idle-timeout", "1h", "--drain-timeout", "50s"]);
    let mut stream = connect(logd.address());
    stream.write_all(b"line\n").unwrap();
    wait_until("it is served", || logd.metric("lines_total") == 1);
    assert_eq!(logd.terminate().code(), Some(0));
    assert!(!logd.says("drain_timed_out"));
    assert!(is_reset(&end(&mut stream).unwrap_err()));
}

#[test]
fn lines_of_a_lost_peer_stay() {
    let logd = Logd::start(&[]);
    let mut stream = connect(logd.address());
    stream.write_all(b"whole\nhalf").unwrap();
    wait_until("it has arrived", || logd.metric("received_bytes_total") == 10);
    reset(stream);
    wait_until("it is gone", || logd.metric("resets_total{reason=\"peer_gone\"}") == 1);
    assert_eq!(logd.file(), b"whole\nhalf\n");
}

#[test]
fn peer_outside_the_allow_list_is_reset() {
    let logd = Logd::start(&["--allow", "127.0.0.1/32"]);
    let mut stream = connect_from("127.0.0.2", logd.address());
    assert!(is_reset(&end(&mut stream).unwrap_err()));
    send(logd.address(), b"welcome\n").unwrap();
    logd.counts("refused_total{reason=\"not_allowed\"}", 1);
    assert_eq!((logd.file(), logd.metric("connections_total")), (b"welcome\n".to_vec(), 1));
}

#[test]
fn huge_line_is_cut_in_bounded_memory() {
    const BYTES: usize = 256 * 1024 * 1024;
    let logd = Logd::start(&["--rotate-bytes", "0", "--sync", "never"]);
    let mut stream = connect(logd.address());
    let block = [b'x'; 128 * 1024];
    for _ in 0..BYTES / block.len() {
        stream.write_all(&block).unwrap();
    }
    receipt(stream).unwrap();
    let mut file = File::open(logd.path("node_log")).unwrap();
    let mut piece = vec![0; 1024 * 1024 + 1];
    for _ in 0..BYTES / (piece.len() - 1) {
        file.read_exact(&mut piece).unwrap();
        let (newline, line) = piece.split_last().unwrap();
        assert!(*newline == b'\n' && line.iter().all(|b| *b == b'x'));
    }
    assert_eq!(file.read(&mut piece).unwrap(), 0);
    assert_eq!(logd.metric("splits_total{reason=\"max_line\"}"), 255, "the last piece is no cut");
    let memory = logd.memory_bytes("VmHWM");
    assert!(memory < 16 * MIB, "{memory} bytes");
}

#[test]
fn half_lines_take_bounded_memory() {
    const CONNECTIONS: usize = 1_000;
    many_descriptors(1_200);
    let logd = Logd::start(&["--max-connections", "1000", "--max-held", "8MiB", "--rotate-bytes", "0"]);
    let half = b"h".repeat(60_000);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(logd.address());
        stream.write_all(&half).unwrap();
        open.push(stream);
    }
    wait_until("all that fits has arrived", || logd.metric("received_bytes_total") > 7_000_000);
    logd.turn();
    // The bound covers the lines, as much again for buffers that grow by doubling, and the daemon itself.
    let memory = logd.memory_bytes("VmHWM");
    assert!(memory < (8 + 8 + 12) * MIB, "{memory} bytes");
}

#[test]
fn half_lines_without_memory_are_cut() {
    let logd = Logd::start(&["--max-connections", "20", "--max-held", "64KiB"]);
    let mut open: Vec<_> = (0..20).map(|_| connect(logd.address())).collect();
    for stream in &mut open {
        stream.write_all(&b"h".repeat(5_000)).unwrap();
    }
    wait_until("all has arrived", || logd.metric("received_bytes_total") == 100_000);
    for mut stream in open {
        stream.write_all(b"end\n").unwrap();
        receipt(stream).unwrap();
    }
    let splits = logd.metric("splits_total{reason=\"max_held\"}");
    let file = logd.file();
    let count = |byte| file.iter().filter(|b| **b == byte).count() as u64;
    assert_eq!((count(b'h'), count(b'\n')), (100_000, 20 + splits));
    assert!(splits > 0);
}

#[test]
fn excess_connection_waits_for_a_place() {
    let logd = Logd::start(&["--max-connections", "2"]);
    let mut served = vec![connect(logd.address()), connect(logd.address())];
    wait_until("two are served", || logd.metric("connections_open") == 2);
    let mut third = connect(logd.address());
    third.write_all(b"third\n").unwrap();
    third.shutdown(Shutdown::Write).unwrap();
    served[0].write_all(b"first\n").unwrap();
    wait_until("the served ones are not held up", || logd.file() == b"first\n");
    assert_eq!(logd.metric("connections_total"), 2);
    receipt(served.remove(0)).unwrap();
    end(&mut third).unwrap();
    assert_eq!(logd.file(), b"first\nthird\n");
}

#[test]
fn burst_of_short_connections_loses_nothing() {
    let logd = Logd::start(&[]);
    std::thread::scope(|scope| {
        for sender in 0..20 {
            let address = logd.address();
            scope.spawn(move || {
                let line = |number| format!("{sender} {number}\n");
                let streams: Vec<_> = (0..100).map(|_| connect(address)).collect();
                for (number, mut stream) in streams.into_iter().enumerate() {
                    stream.write_all(line(number).as_bytes()).unwrap();
                }
            });
        }
    });
    wait_until("every line is there", || logd.metric("lines_total") == 2_000);
    let text = String::from_utf8(logd.file()).unwrap();
    let distinct: std::collections::HashSet<_> = text.lines().collect();
    assert_eq!((text.lines().count(), distinct.len()), (2_000, 2_000));
}
