//! Tests the appender after crashes, during rotations, and while others move or remove its file.

use super::naming::MOVER_CREATES_WITHIN;
use super::*;
use crate::file::housekeeping;
use kit::disk::free_space::MinFree;

const FIRST: &str = "node_log.000001-20260101T000000Z";

fn never() -> RotationPolicy {
    RotationPolicy {
        rotate_bytes: 0,
        rotate_age: Duration::ZERO,
        keep_files: 0,
        keep_bytes: 0,
        min_free: MinFree::Bytes(0),
    }
}

fn appender(policy: RotationPolicy) -> (tempfile::TempDir, Appender) {
    let directory = tempfile::tempdir().unwrap();
    let (appender, torn) = Appender::open(&directory.path().join("node_log"), policy).unwrap();
    assert!(!torn);
    (directory, appender)
}

fn content(directory: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(directory.path().join(name)).unwrap()
}

#[test]
fn torn_files_are_repaired_once() {
    for (name, torn) in [("node_log", "whole\nhal"), (FIRST, "whole\nhal\0\0")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node_log");
        std::fs::write(directory.path().join(name), torn).unwrap();
        assert!(Appender::open(&path, never()).unwrap().1);
        assert!(!Appender::open(&path, never()).unwrap().1);
        assert_eq!(content(&directory, name), "whole\nhal\n");
    }
}

#[test]
fn rotation_numbers_continue_after_a_restart() {
    let (directory, mut appender) = appender(RotationPolicy { rotate_bytes: 10, ..never() });
    for line in ["one\n", "two\n", "three\n", "four\n"] {
        appender.append(line.as_bytes()).unwrap();
    }
    drop(appender);
    let path = directory.path().join("node_log");
    let (mut appender, _) = Appender::open(&path, never()).unwrap();
    appender.rotate().unwrap();
    appender.append(b"five\n").unwrap();
    let rotated = rotated::list(&path).unwrap();
    let numbers: Vec<_> = rotated.iter().map(|file| file.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let all: String = rotated.iter().map(|file| content(&directory, &file.name)).collect();
    assert_eq!(all + &content(&directory, "node_log"), "one\ntwo\nthree\nfour\nfive\n");
}

#[test]
fn moved_file_is_noticed() {
    let (directory, mut appender) = appender(never());
    appender.append(b"one\n").unwrap();
    std::fs::rename(directory.path().join("node_log"), directory.path().join("moved")).unwrap();
    let stopped = appender.append(b"two\n").unwrap_err();
    assert!(stopped.kept_bytes == 0 && stopped.cause.is_passing(), "who moved it may make the next");
    let long_ago = Instant::now().checked_sub(MOVER_CREATES_WITHIN).unwrap();
    appender.naming = Naming::Nameless { since: long_ago, refused: false };
    appender.append(b"two\n").unwrap();
    assert_eq!(
        (content(&directory, "moved"), content(&directory, "node_log")),
        ("one\n".into(), "two\n".into())
    );
    assert_eq!(appender.events.reopened, 1);
}

#[test]
fn lines_move_to_the_next_file() {
    let (directory, mut appender) = appender(never());
    appender.append(b"one\n").unwrap();
    std::fs::rename(directory.path().join("node_log"), directory.path().join("moved")).unwrap();
    std::fs::write(directory.path().join("node_log"), "").unwrap();
    // Simulates a move between the look and the write.
    appender.named_at = Some(Instant::now() + LOOK_EVERY);
    appender.append(b"two\n").unwrap();
    assert_eq!(
        (content(&directory, "moved"), content(&directory, "node_log")),
        ("one\n".into(), "two\n".into())
    );
}

#[test]
fn removed_directory_is_noticed_during_a_rotation() {
    let (directory, mut appender) = half_rotated();
    std::fs::remove_dir_all(directory.path()).unwrap();
    let stopped = appender.append(b"three\n").unwrap_err();
    assert!(stopped.kept_bytes == 0 && matches!(stopped.cause, WriteError::NoName(_)));
    std::fs::create_dir(directory.path()).unwrap();
    while appender.append(b"three\n").is_err() {}
    assert_eq!(content(&directory, "node_log"), "one\ntwo\nthree\n");
}

#[test]
fn failed_rotation_keeps_the_file() {
    let (directory, mut appender) = appender(RotationPolicy { rotate_bytes: 5, ..never() });
    let in_the_way = directory.path().join(".node_log.new");
    std::fs::create_dir(&in_the_way).unwrap();
    appender.append(b"one\n").unwrap();
    appender.append(b"two\n").unwrap();
    assert_eq!(appender.events.rotation_failed, 1);
    assert_eq!(content(&directory, "node_log"), "one\ntwo\n");
    std::fs::remove_dir(&in_the_way).unwrap();
    appender.rotate_not_before = None;
    appender.append(b"three\n").unwrap();
    assert_eq!(content(&directory, "node_log"), "three\n");
    let rotated = rotated::list(&directory.path().join("node_log")).unwrap();
    assert_eq!(content(&directory, &rotated[0].name), "one\ntwo\n");
}

#[test]
fn rotation_writes_through_no_link() {
    let (directory, mut appender) = appender(never());
    let foreign = directory.path().join("foreign");
    let temporary = directory.path().join(".node_log.new");
    for link in
        [|a: &Path, b: &Path| std::os::unix::fs::symlink(a, b), |a: &Path, b: &Path| std::fs::hard_link(a, b)]
    {
        std::fs::write(&foreign, "not a log\n").unwrap();
        link(&foreign, &temporary).unwrap();
        appender.rotate().unwrap();
        appender.append(b"line\n").unwrap();
        assert_eq!(content(&directory, "foreign"), "not a log\n");
        assert_eq!(content(&directory, "node_log"), "line\n");
    }
}

/// Returns an appender whose first rotation is half done: "one" is in the renamed file, and an obstacle
/// keeps the successor out of its place.
fn half_rotated() -> (tempfile::TempDir, Appender) {
    let (directory, mut appender) = appender(never());
    appender.append(b"one\n").unwrap();
    let path = directory.path().join("node_log");
    std::fs::rename(&path, directory.path().join(FIRST)).unwrap();
    appender.rotation.rename();
    appender.name = directory.path().join(FIRST);
    // No file can be renamed to a directory that is not empty.
    std::fs::create_dir_all(path.join("in the way")).unwrap();
    appender.append(b"two\n").unwrap();
    assert_eq!(appender.events.rotation_failed, 1);
    std::fs::remove_dir_all(&path).unwrap();
    (directory, appender)
}

#[test]
fn half_done_rotation_keeps_the_old_file() {
    let (directory, mut appender) = half_rotated();
    let tidy = |appender: &Appender| {
        let path = directory.path().join("node_log");
        housekeeping::tidy(&path, appender.newest_finished(), &never(), true).unwrap().compressed
    };
    assert_eq!(tidy(&appender), 0, "what is still written to is nobody's to compress");
    appender.append(b"three\n").unwrap();
    assert_eq!(content(&directory, FIRST), "one\ntwo\nthree\n");
    appender.rotate_not_before = None;
    appender.append(b"four\n").unwrap();
    assert_eq!(content(&directory, FIRST), "one\ntwo\nthree\n");
    assert_eq!(content(&directory, "node_log"), "four\n");
    assert_eq!(tidy(&appender), 1);
}

#[test]
fn reopen_finishes_a_half_done_rotation() {
    let (directory, mut appender) = half_rotated();
    appender.reopen().unwrap();
    for line in ["three\n", "four\n"] {
        appender.append(line.as_bytes()).unwrap();
        appender.rotate_not_before = None;
    }
    assert_eq!(content(&directory, "node_log"), "three\nfour\n");
    assert_eq!(appender.newest_finished(), 1);
}

#[test]
fn other_than_regular_files_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node_log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Appender::open(&path, never()).unwrap_err().one_line().contains("not a regular file"));
}

#[test]
fn lines_left_in_a_moved_file_are_not_repeated() {
    let (directory, mut appender) = appender(never());
    std::fs::write(directory.path().join("node_log"), "").unwrap();
    // Simulates a move between the look and the write. Nothing can be taken out of this file again.
    let moved = File::options().append(true).open("/dev/null").unwrap();
    appender.inode = Inode::of(&moved).unwrap();
    appender.file = Arc::new(moved);
    appender.named_at = Some(Instant::now() + LOOK_EVERY);
    appender.append(b"one\n").unwrap();
    assert_eq!(content(&directory, "node_log"), "");
}
