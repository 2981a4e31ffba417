//! A data directory from which something was removed is refused, with a message that names the missing part.

use crate::daemon::{Queued, Setup};
use nix::sys::signal::Signal;
use queued::engine::counters::Counters;
use queued::engine::queue::Queue;
use queued::engine::record::{Pushed, Record};
use queued::log::segment::{self, Header};
use queued::log::{frame, head};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Output;
use trial::wait_until;

const FLAGS: [&str; 2] = ["--segment-bytes", "64KiB"];

pub(crate) fn data(daemon: &Queued) -> PathBuf {
    daemon.setup.path("data")
}

/// Twenty items of 17 KB, three per segment, and a server that has ended.
fn written() -> Queued {
    let daemon = Queued::start(&FLAGS);
    let http = &mut daemon.http();
    for n in 0..20 {
        http.post("/v1/queues/q/items", format!("{n:02}{}", "x".repeat(17_000))).expect(201);
    }
    daemon.terminate();
    daemon
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

pub(crate) fn check(setup: &Setup, what: &str) -> (Option<i32>, String) {
    let output = setup.run_other(&["check", what]);
    (output.status.code(), said(&output))
}

fn remove(daemon: &Queued, numbers: &[u32]) {
    for number in numbers {
        std::fs::remove_file(segment::path(&data(daemon), *number)).unwrap();
    }
}

/// Checks that the start is refused for this reason, and that `queued check` reports it, too.
fn is_refused(daemon: &Queued, why: &str) {
    let refused = daemon.setup.run();
    let error = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains(why) && error.contains("queued repair data"), "{why}: {error}");
    let (exit, said) = check(&daemon.setup, "data");
    assert!(exit == Some(1) && said.contains(why) && !said.contains("sound\n"), "{why}: {said}");
}

#[test]
fn missing_oldest_segments_and_losses_are_named() {
    let mut daemon = written();
    remove(&daemon, &[1, 2]);
    is_refused(&daemon, "0000000001.log is missing, and so are all up to 0000000002.log");
    let repair = daemon.setup.run_other(&["repair", "data"]);
    assert_eq!(repair.status.code(), Some(0), "{}", said(&repair));
    let lost: u64 = 20 - kept(&mut daemon);
    assert!(lost >= 6, "{lost}");
    assert!(said(&repair).contains(&format!("queue q: items lost: {lost}")), "{}", said(&repair));
    assert_eq!(daemon.metric("lost_total{queue=\"q\"}"), f64::from(u32::try_from(lost).unwrap()));
    daemon.post("/v1/queues/q/items", "next").expect(201);
    daemon.kill9();
    assert_eq!(check(&daemon.setup, "data").0, Some(0));
    assert_eq!(kept(&mut daemon), 21 - lost);
}

fn kept(daemon: &mut Queued) -> u64 {
    daemon.restart();
    daemon.get("/v1/queues/q").expect(200).json()["ready"].as_u64().unwrap()
}

#[test]
fn missing_newest_segments_are_named() {
    let daemon = written();
    let numbers = segment::list(&data(&daemon)).unwrap();
    let newest = numbers[numbers.len() - 1];
    remove(&daemon, &[newest]);
    is_refused(&daemon, &format!("{newest:010}.log is missing"));
    remove(&daemon, &numbers[..numbers.len() - 1]);
    let refused = daemon.setup.run();
    assert!(said(&refused).contains("0000000001.log is missing, and so are all up to"), "{}", said(&refused));
}

#[test]
fn missing_or_exchanged_head_is_named() {
    let daemon = written();
    let path = head::path(&data(&daemon));
    let sound = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    is_refused(&daemon, "head is missing");
    let other = written();
    std::fs::copy(head::path(&data(&other)), &path).unwrap();
    is_refused(&daemon, "belongs to another log");
    std::fs::write(&path, sound).unwrap();
    assert_eq!(check(&daemon.setup, "data").0, Some(0));
}

#[test]
fn exchanged_segment_is_named() {
    let daemon = written();
    let path = segment::path(&data(&daemon), 2);
    let mut bytes = std::fs::read(&path).unwrap();
    // The same groups under another name, like a second log with the same beginning.
    let header = Header::decode(&bytes, &path).unwrap();
    let other = Header { nonce: header.nonce ^ 1, ..header };
    let mut at = header.bytes();
    while let Some(group) = frame::open(&bytes, at, header.nonce).map(|frame| (frame.group, frame.bytes())) {
        frame::seal(&mut bytes[at..at + group.1], other.nonce, group.0, 1);
        at += group.1;
    }
    bytes[..header.bytes()].copy_from_slice(&other.encode());
    std::fs::write(&path, bytes).unwrap();
    is_refused(&daemon, "0000000003.log does not continue segment 0000000002.log");
}

#[test]
fn older_copy_of_newest_segment_is_detected() {
    let mut daemon = Queued::start(&FLAGS);
    let path = segment::path(&data(&daemon), 1);
    daemon.post("/v1/queues/q/items", "first").expect(201);
    let early = std::fs::read(&path).unwrap();
    daemon.post("/v1/queues/q/items", "second").expect(201);
    daemon.kill9();
    // The next start compares the segments with what this start writes to the head.
    daemon.restart();
    daemon.kill9();
    std::fs::write(&path, early).unwrap();
    is_refused(&daemon, "0000000001.log lacks groups");
}

#[test]
fn foreign_directory_is_refused_and_left_alone() {
    let setup = Setup::new(&[]);
    std::fs::create_dir(setup.path("empty")).unwrap();
    let nothing = ["check", "repair"].map(|command| setup.run_other(&[command, "empty"]));
    let backup = setup.run_other(&["backup", "empty", "--to", "backup"]);
    for output in nothing.iter().chain([&backup]) {
        let said = said(output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("empty is not a data directory of queued") && !said.contains("queued repair"),
            "{said}"
        );
    }
    assert_eq!(std::fs::read_dir(setup.path("empty")).unwrap().count(), 0);
    assert!(!setup.path("backup").exists() && !setup.path("backup.new").exists());
}

#[test]
fn check_writes_nothing_and_refuses_running_server() {
    let daemon = Queued::start(&[]);
    daemon.post("/v1/queues/q/items", "x").expect(201);
    let (exit, said) = check(&daemon.setup, "data");
    assert!(exit == Some(75) && said.contains("queued backup data --to FILE"), "{said}");
    daemon.terminate();
    std::fs::remove_file(daemon.setup.path("data/lock")).unwrap();
    let names =
        || std::fs::read_dir(data(&daemon)).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let before = names();
    assert_eq!(check(&daemon.setup, "data").0, Some(0));
    assert_eq!(names(), before);
}

#[test]
fn drain_is_counted_after_its_segments_are_gone() {
    let mut daemon = Queued::start(&FLAGS);
    let http = &mut daemon.http();
    http.post("/v1/queues/other/items", "stays").expect(201);
    for _ in 0..80 {
        http.post("/v1/queues/q/items", "x".repeat(3000)).expect(201);
    }
    http.post("/memq/server/queues/q/drain", "").expect(200);
    wait_until("all that was drained is gone", || !segment::path(&data(&daemon), 1).exists());
    daemon.kill9();
    daemon.restart();
    let queue = daemon.get("/v1/queues/q").expect(200).json();
    assert_eq!((&queue["pushed"], &queue["removed"]), (&json!(80), &json!(80)));
    daemon.terminate();
    assert_eq!(check(&daemon.setup, "data").0, Some(0));
}

/// Writes a segment in the format of version 1.
fn version_1(dir: &Path, number: u32, group: u64, records: &[Record<'_>]) {
    let header = Header { version: 1, ..Header::new(number, 7, group, None) };
    let mut bytes = vec![0; frame::HEADER_BYTES];
    for record in records {
        record.encode(&mut bytes);
    }
    frame::seal(&mut bytes, header.nonce, group, 1);
    std::fs::write(segment::path(dir, number), [header.encode(), bytes].concat()).unwrap();
}

fn queue_of_version_1(pushed: u64) -> Record<'static> {
    let mut queue = Queue::new(1, "q", true);
    queue.counters = Counters { pushed, ..Counters::default() };
    queue.records().next().unwrap()
}

fn push(number: u64) -> Record<'static> {
    let (queue, pushed_ms, due_ms) = (1, 1, None);
    Record::Pushed(Pushed { queue, number, pushed_ms, due_ms, key: None, content_type: None, body: b"x" })
}

#[test]
fn version_1_is_checked_and_continued_as_2() {
    let setup = Setup::new(&FLAGS);
    let dir = setup.path("data");
    std::fs::create_dir(&dir).unwrap();
    version_1(&dir, 1, 1, &[queue_of_version_1(0), push(1), push(2)]);
    version_1(&dir, 2, 2, &[queue_of_version_1(2), push(3)]);
    let first = std::fs::read(segment::path(&dir, 1)).unwrap();
    std::fs::remove_file(segment::path(&dir, 1)).unwrap();
    let refused = setup.run();
    assert!(
        said(&refused).contains("queue \"q\" holds 1 items, 2 fewer than it counted: pushed 3"),
        "{}",
        said(&refused)
    );
    std::fs::write(segment::path(&dir, 1), first).unwrap();
    let daemon = setup.start();
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], 3);
    daemon.post("/v1/queues/q/items", "of this version").expect(201);
    daemon.kill9();
    let version = |number| {
        let path = segment::path(&data(&daemon), number);
        Header::decode(&std::fs::read(&path).unwrap(), &path).unwrap().version
    };
    assert_eq!((version(2), version(3)), (1, 2));
    remove(&daemon, &[2]);
    is_refused(&daemon, "0000000002.log is missing");
}

#[test]
fn atomic_copies_are_sound() {
    let daemon = Queued::start(&FLAGS);
    let http = &mut daemon.http();
    for n in 0..50 {
        http.post("/v1/queues/q/items", format!("{n:02}{}", "x".repeat(9000))).expect(201);
    }
    daemon.freeze();
    let copy = Setup::new(&FLAGS);
    std::fs::create_dir(copy.path("data")).unwrap();
    copy_files(&data(&daemon), &copy.path("data"), |_| true);
    daemon.signal(Signal::SIGCONT);
    assert_eq!(check(&copy, "data").0, Some(0));
    assert_eq!(copy.start().get("/v1/queues/q").json()["ready"], 50);
}

pub(crate) fn copy_files(from: &Path, to: &Path, which: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if which(&name) {
            // The server may have removed it since then.
            let _ = std::fs::copy(from.join(&name), to.join(&name));
        }
    }
}

/// The log changes while it is copied: files copied early do not fit files copied later.
#[test]
fn slow_copy_of_running_directory_is_rejected() {
    for head_first in [true, false] {
        let daemon = Queued::start(&FLAGS);
        let http = &mut daemon.http();
        let mut move_on = || {
            for n in 0..40 {
                http.post("/v1/queues/q/items", format!("{n:02}{}", "x".repeat(9000))).expect(201);
            }
            let leased = http.post("/v1/queues/q/lease", r#"{"max":38}"#).expect(200).json();
            let held = leased["items"].as_array().unwrap().iter();
            let acks: Vec<_> = held.map(|i| json!({"id": i["id"], "token": i["token"]})).collect();
            http.post("/v1/queues/q/lease", json!({"ack": acks, "max": 1}).to_string()).expect(200);
        };
        move_on();
        let copy = Setup::new(&FLAGS);
        let to = copy.path("data");
        std::fs::create_dir(&to).unwrap();
        copy_files(&data(&daemon), &to, |name| (name == head::NAME) == head_first);
        let listed = segment::list(&data(&daemon)).unwrap();
        let gone = |numbers: &[u32]| numbers.iter().all(|n| !segment::path(&data(&daemon), *n).exists());
        while !gone(&listed) {
            move_on();
        }
        copy_files(&data(&daemon), &to, |name| (name == head::NAME) != head_first);
        let (exit, said) = check(&copy, "data");
        assert_eq!(exit, Some(1), "head first: {head_first}: {said}");
        assert_eq!(copy.run().status.code(), Some(1));
    }
}
