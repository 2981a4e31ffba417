//! Debian's logrotate, used as it should be and as it often is.

use crate::client::send;
use crate::daemon::Logd;
use crate::marked_lines::content;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const SENDERS: usize = 8;
const ROTATIONS: usize = 12;
const SHIPPED: &str = include_str!("../../../../packaging/logrotate/logd");
/// A configuration that loses lines with daemons that check their file only occasionally or on a signal.
const CARELESS: &str = "/var/log/logd/node.log {\n rotate 10000\n create\n compress\n}\n";

/// Rotates once, by force.
fn rotate(logd: &Logd, stanza: &str) {
    let hang_up = format!("kill -HUP {}", logd.pid());
    let stanza = stanza.replace("/var/log/logd/node.log", logd.path("node_log").to_str().unwrap());
    let stanza =
        stanza.replace("systemctl reload logd.service", &hang_up).replace("rotate 14", "rotate 10000");
    fs::write(logd.path("logrotate.conf"), stanza).unwrap();
    let (state, conf) = (logd.path("logrotate.state"), logd.path("logrotate.conf"));
    let output = Command::new("logrotate").arg("--force").arg("--state").args([state, conf]).output();
    let output = output.unwrap_or_else(|e| panic!("logrotate is not installed: {e}"));
    assert!(output.status.success(), "{output:?}");
}

/// Returns the log's files, oldest first.
fn files(logd: &Logd) -> Vec<PathBuf> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(logd.path("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.ends_with(".backup"), "the file of the one was in the other's way: {name}");
        let Some(rest) = name.strip_prefix("node_log.") else { continue };
        numbered.push((rest.trim_end_matches(".gz").parse::<u32>().unwrap(), path));
    }
    numbered.sort();
    let mut files: Vec<_> = numbered.into_iter().rev().map(|(_, path)| path).collect();
    files.push(logd.path("node_log"));
    files
}

/// Rotates while lines arrive. Checks that each line with a receipt is there once and in order, in the files
/// and in the output of `logd read`.
fn nothing_is_lost(logd: &Logd, stanza: &str) {
    let (stop, kept) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (stop, kept) = (&stop, &kept);
            scope.spawn(move || {
                let mut next = 0;
                while !stop.load(Ordering::Relaxed) {
                    let lines: String = (next..next + 50).map(|n| format!("{sender} {n}\n")).collect();
                    send(logd.address(), lines.as_bytes()).unwrap();
                    next += 50;
                }
                kept.lock().unwrap().push((sender, next));
            });
        }
        for _ in 0..ROTATIONS {
            let before = logd.metric("receipts_total");
            logd.wait_until("some lines came", || logd.metric("receipts_total") > before + 20);
            rotate(logd, stanza);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let files = files(logd);
    assert_eq!(files.len(), ROTATIONS + 1);
    let bytes: Vec<u8> = files.iter().flat_map(|path| content(path)).collect();
    let text = String::from_utf8(bytes).unwrap();
    for (sender, lines) in kept.into_inner().unwrap() {
        let prefix = format!("{sender} ");
        let numbers = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse::<usize>().ok());
        let found: Vec<_> = numbers.collect();
        assert!(found.iter().copied().eq(0..lines), "sender {sender}: {lines} lines, {} found", found.len());
    }
    let read =
        Command::new(env!("CARGO_BIN_EXE_logd")).arg("read").current_dir(logd.path("")).output().unwrap();
    assert!(read.status.success(), "{read:?}");
    assert!(read.stdout == text.as_bytes());
}

#[test]
#[ignore = "needs logrotate: just test-programs"]
fn shipped_logrotate_stanza_loses_nothing() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    nothing_is_lost(&logd, SHIPPED);
}

#[test]
#[ignore = "needs logrotate: just test-programs"]
fn logrotate_without_a_signal_loses_nothing() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    nothing_is_lost(&logd, CARELESS);
}
