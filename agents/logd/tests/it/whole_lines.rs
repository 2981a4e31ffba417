//! Every line is complete and in its connection's order: under many connections, and while the file changes
//! under them.

use crate::daemon::Logd;
use crate::marked_lines::MarkedLines;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use trial::wait_until;

const MANY: MarkedLines = MarkedLines { connections: 200, lines: 5_000 };
const FEWER: MarkedLines = MarkedLines { connections: 50, lines: 1_000 };

fn as_it_is(line: &[u8]) -> Vec<u8> {
    line.to_vec()
}

#[test]
fn lines_stay_whole() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    MANY.send(logd.address());
    MANY.check(&logd.files(), as_it_is);
    assert_eq!(logd.metric("lines_total"), 1_000_000);
    logd.counts("receipts_total", 200);
    assert_eq!(logd.metric("splits_total{reason=\"max_line\"}"), 0);
}

#[test]
fn lines_stay_whole_through_rotations() {
    let logd = Logd::start(&["--rotate-bytes", "1MB", "--keep-files", "0", "--keep-bytes", "0"]);
    FEWER.send(logd.address());
    wait_until("all rotated files are compressed", || {
        logd.files().iter().rev().skip(1).all(|path| path.extension().is_some_and(|e| e == "gz"))
    });
    let files = logd.files();
    assert!(files.len() > 5, "{files:?}");
    FEWER.check(&files, as_it_is);
}

#[test]
fn lines_stay_whole_through_logrotate() {
    let logd = Logd::start(&[]);
    let path = logd.path("node_log");
    let mut moved = Vec::new();
    let sent = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            FEWER.send(logd.address());
            sent.store(true, Ordering::Relaxed);
        });
        while !sent.load(Ordering::Relaxed) {
            let target = logd.path(&format!("moved.{}", moved.len()));
            std::fs::rename(&path, &target).unwrap();
            moved.push(target);
            logd.signal(Signal::SIGHUP);
            wait_until("there is a new file", || path.exists());
        }
    });
    assert!(moved.len() > 1 && logd.metric("reopened_total") > 1);
    moved.push(path);
    FEWER.check(&moved, as_it_is);
}

#[test]
fn lines_stay_whole_with_syncs() {
    let logd = Logd::start(&["--sync", "always"]);
    FEWER.send(logd.address());
    FEWER.check(&logd.files(), as_it_is);
    let syncs = logd.metric("syncs_total");
    assert!((1..=50).contains(&syncs), "{syncs} syncs for 50 receipts");
}

#[test]
fn lines_stay_whole_when_stamped() {
    let logd = Logd::start(&["--format", "stamped"]);
    FEWER.send(logd.address());
    FEWER.check(&logd.files(), |line| {
        let mut parts = line.splitn(3, |b| *b == b' ');
        let (time, peer) = (parts.next().unwrap(), parts.next().unwrap());
        assert!(time.len() == "2026-11-21T08:44:24.000000Z".len() && peer.starts_with(b"127.0.0.1:"));
        parts.next().unwrap().to_vec()
    });
}

#[test]
fn lines_stay_whole_as_json() {
    let logd = Logd::start(&["--format", "json"]);
    FEWER.send(logd.address());
    FEWER.check(&logd.files(), |line| {
        let object: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert!(object["peer"].as_str().unwrap().starts_with("127.0.0.1:") && object["time"].is_string());
        match object["line"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD.decode(object["line_base64"].as_str().unwrap()).unwrap(),
        }
    });
}
