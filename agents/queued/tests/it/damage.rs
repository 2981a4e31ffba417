//! Torn ends are cut and reported; damage in the middle is an error that names file and offset; nothing is
//! skipped.

use crate::daemon::{Queued, Setup};
use queued::engine::item::ItemState;
use queued::log::reading::{self, LogContents};
use queued::log::{LogError, frame, segment};
use std::path::{Path, PathBuf};

/// Writes a log of three segments with a hundred groups, left by SIGKILL.
fn written() -> (Queued, PathBuf) {
    let daemon = Queued::start(&["--segment-bytes", "64KiB"]);
    let http = &mut daemon.http();
    for n in 0..100 {
        http.post("/v1/queues/q/items", format!("{n:03}{}", "x".repeat(1500))).expect(201);
    }
    daemon.kill9();
    let dir = daemon.setup.path("data");
    (daemon, dir)
}

fn read(dir: &Path) -> Result<LogContents, LogError> {
    reading::read(dir, u64::MAX, 1).map(Option::unwrap)
}

fn items(found: &LogContents) -> Vec<String> {
    let queue = found.core.queue("q").unwrap();
    assert_eq!(queue.tally(ItemState::Ready), queue.items().len() as u64);
    queue.items().iter().map(|i| String::from_utf8(i.body.clone().unwrap()[..3].to_vec()).unwrap()).collect()
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:03}")).collect()
}

/// The offsets at which the groups of a segment begin, and the end of the last one.
fn groups(bytes: &[u8], path: &Path) -> Vec<usize> {
    let nonce = segment::Header::decode(bytes, path).unwrap().nonce;
    let mut at = vec![segment::HEADER_BYTES];
    while let Some(frame) = frame::open(bytes, at[at.len() - 1], nonce) {
        at.push(at[at.len() - 1] + frame.bytes());
    }
    at
}

#[test]
fn any_flipped_bit_is_detected() {
    let (_daemon, dir) = written();
    let numbers = segment::list(&dir).unwrap();
    assert!(numbers.len() >= 3, "{numbers:?}");
    assert_eq!(items(&read(&dir).unwrap()), expected(100));
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..400 {
        let number = numbers[random.usize(0..numbers.len())];
        let path = segment::path(&dir, number);
        let sound = std::fs::read(&path).unwrap();
        let ends = groups(&sound, &path);
        let (end, last_group) = (ends[ends.len() - 1], ends[ends.len() - 2]);
        let at = random.usize(0..end);
        let mut bad = sound.clone();
        bad[at] ^= 1 << random.u8(0..8);
        std::fs::write(&path, &bad).unwrap();
        let is_last = Some(&number) == numbers.last();
        match read(&dir) {
            Err(LogError::Damaged { path: named, offset, .. }) => {
                assert!(named == path || !is_last, "byte {at}: {}", named.display());
                assert!(offset <= at as u64, "byte {at} is behind {offset}");
                assert!(!is_last || at < last_group, "byte {at}: the last group may be cut");
            }
            Err(LogError::Version { path: named, .. }) => assert_eq!(named, path),
            Err(other) => panic!("byte {at}: {other}"),
            // A damaged last group cannot be distinguished from one that was never finished.
            Ok(found) => {
                assert!(is_last && at >= last_group, "byte {at} of segment {number} went unnoticed");
                assert_eq!(items(&found), expected(99));
            }
        }
        std::fs::write(&path, &sound).unwrap();
    }
}

#[test]
fn torn_end_is_cut_at_last_group() {
    let (_daemon, dir) = written();
    let path = segment::path(&dir, *segment::list(&dir).unwrap().last().unwrap());
    let sound = std::fs::read(&path).unwrap();
    let ends = groups(&sound, &path);
    let whole = 100 - (ends.len() - 2); // the first group of a segment is its checkpoint with one item
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..100 {
        let cut = random.usize(ends[0]..ends[ends.len() - 1]);
        let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
        // Cuts the file, and fills it with zeros as a prepared file is.
        let mut torn = sound[..cut].to_vec();
        if random.bool() {
            torn.resize(sound.len(), 0);
        }
        std::fs::write(&path, &torn).unwrap();
        let found = read(&dir).unwrap();
        assert_eq!(found.end.offset, ends[kept]);
        let count = items(&found).len();
        assert_eq!(items(&found), expected(count));
        assert!(count + 1 >= whole + kept && count <= whole + kept, "{count} of {whole} + {kept}");
    }
}

#[test]
fn torn_end_is_logged_and_overwritten() {
    let (mut daemon, dir) = written();
    let path = segment::path(&dir, *segment::list(&dir).unwrap().last().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let ends = groups(&bytes, &path);
    bytes[ends[ends.len() - 1] - 1] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    daemon.restart();
    let said = daemon.wait_for("unfinished_group_cut");
    assert_eq!(said["offset"], ends[ends.len() - 2]);
    assert_eq!(daemon.metric("torn_tails_total"), 1.0);
    daemon.post("/v1/queues/q/items", "next").expect(201);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.metric("torn_tails_total"), 0.0);
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], 100);
}

#[test]
fn damage_stops_the_start_until_repaired() {
    let (mut daemon, dir) = written();
    let path = segment::path(&dir, segment::list(&dir).unwrap()[1]);
    let mut bytes = std::fs::read(&path).unwrap();
    let ends = groups(&bytes, &path);
    bytes[ends[4] + 100] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();

    let refused = daemon.setup.run();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    let (name, offset) = (path.file_name().unwrap().to_str().unwrap(), ends[4]);
    assert!(error.contains(&format!("{name} is damaged at byte {offset}")), "{error}");
    assert!(error.contains("queued check") && error.contains("queued repair"), "{error}");

    let check = daemon.setup.run_other(&["check", "data"]);
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        said.contains(&format!("{name} at byte {offset}")) && said.contains("queue q: 99 items"),
        "{said}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "check changes nothing");

    let repair = daemon.setup.run_other(&["repair", "data"]);
    assert_eq!(repair.status.code(), Some(0), "{repair:?}");
    let aside = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
    assert!(aside.into_iter().any(|p| p.file_name().unwrap().to_str().unwrap().starts_with("damaged-")));
    let check = daemon.setup.run_other(&["check", "data"]);
    assert_eq!(
        (check.status.code(), String::from_utf8_lossy(&check.stdout).contains("sound")),
        (Some(0), true)
    );
    daemon.restart();
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], 99);
    daemon.post("/v1/queues/q/items", "next").expect(201);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.get("/v1/queues/q").json()["ready"], 100);
}

#[test]
fn missing_segment_and_foreign_file_are_damage() {
    let (daemon, dir) = written();
    let numbers = segment::list(&dir).unwrap();
    let middle = segment::path(&dir, numbers[1]);
    let bytes = std::fs::read(&middle).unwrap();
    std::fs::remove_file(&middle).unwrap();
    assert!(matches!(read(&dir), Err(LogError::Incomplete { path, .. }) if path == middle));
    std::fs::write(&middle, b"hello").unwrap();
    assert!(matches!(read(&dir), Err(LogError::Damaged { path, .. }) if path == middle));
    std::fs::write(&middle, &bytes).unwrap();
    assert!(read(&dir).is_ok());
    drop(daemon);
}

#[test]
fn later_version_is_refused() {
    let setup = Setup::new(&[]);
    std::fs::create_dir(setup.path("data")).unwrap();
    let mut bytes = segment::Header::new(1, 1, 1, None).encode();
    bytes[16] = 99;
    setup.write("data/0000000001.log", bytes);
    let output = setup.run();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("version 99"));
}

/// The bytes are sound, but belong elsewhere: the message must not send anyone to look for a broken disk.
#[test]
fn group_with_a_wrong_number_is_named() {
    let (_daemon, dir) = written();
    let path = segment::path(&dir, segment::list(&dir).unwrap()[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    let nonce = segment::Header::decode(&bytes, &path).unwrap().nonce;
    let starts = groups(&bytes, &path);
    let (from, to) = (starts[4], starts[5]);
    let frame = frame::open(&bytes, from, nonce).unwrap();
    let (group, unsynced) = (frame.group, frame.unsynced);
    frame::seal(&mut bytes[from..to], nonce, group + 7, unsynced);
    std::fs::write(&path, bytes).unwrap();
    let error = read(&dir).unwrap_err().to_string();
    let why = format!("at byte {from}: group {} is here instead of group {group}", group + 7);
    assert!(error.contains(&why), "{error}");
}
