//! `--to-file`: one write a line, rotation followed, and the same inputs as for sending.

use crate::logsend::{stderr, terminate, wait_for_log};
use crate::receiver::lines;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use std::io::Write;
use std::path::Path;
use trial::{limit, signal, wait_until, with_input};

const UNLIMITED: u64 = nix::libc::RLIM_INFINITY;

fn to_file(path: &Path) -> [&str; 2] {
    ["--to-file", path.to_str().unwrap()]
}

#[test]
fn several_writers_of_one_file_never_mix_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shared.log");
    let input = |writer: usize| -> Vec<u8> {
        (0..2000).flat_map(|i| format!("{writer} {i:05} {}\n", "y".repeat(i % 3000)).into_bytes()).collect()
    };
    let children: Vec<_> =
        (0..4).map(|_| plain_command(&to_file(&path)).spawn().unwrap()).enumerate().collect();
    let finishing: Vec<_> = children
        .into_iter()
        .map(|(writer, child)| std::thread::spawn(move || with_input(child, &input(writer))))
        .collect();
    for output in finishing {
        assert_eq!(output.join().unwrap().status.code(), Some(0));
    }
    let content = std::fs::read(&path).unwrap();
    for writer in 0..4 {
        let prefix = format!("{writer} ");
        let own: Vec<&[u8]> =
            lines(&content).into_iter().filter(|line| line.starts_with(prefix.as_bytes())).collect();
        assert!(own.concat() == input(writer), "writer {writer}");
    }
    assert_eq!(lines(&content).len(), 8000);
}

#[test]
#[ignore = "needs strace: just test-programs"]
fn each_line_is_exactly_one_write() {
    let directory = tempfile::tempdir().unwrap();
    let (path, trace) = (directory.path().join("x.log"), directory.path().join("trace"));
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-e", "trace=write", "-e", "signal=none", "-s", "64", "-o"]).arg(&trace);
    strace.arg(env!("CARGO_BIN_EXE_logsend")).args(to_file(&path));
    strace.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = strace.spawn().expect("strace is installed");
    let long = "z".repeat(100_000);
    let output = with_input(child, format!("one\n\n{long}\nlast").as_bytes());
    assert!(output.status.success(), "{}", stderr(&output));
    let trace = std::fs::read_to_string(&trace).unwrap();
    let writes = trace.lines().filter(|call| call.contains("write(") && !call.contains("write(2,"));
    let lengths: Vec<&str> = writes.filter_map(|call| call.rsplit("= ").next()).collect();
    assert_eq!(lengths, ["4", "1", "100001", "5"], "{trace}");
}

#[test]
fn greetings_and_commands_can_append_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.log");
    let arguments = [&to_file(&path)[..], &["--", "sh", "-c", "echo out; exit 5"]].concat();
    assert_eq!(plain_command(&arguments).output().unwrap().status.code(), Some(5));
    assert_eq!(std::fs::read(&path).unwrap(), b"out\n");

    let greet = [&to_file(&path)[..], &["--greet", "20ms"]].concat();
    let child = plain_command(&greet).spawn().unwrap();
    wait_until("lines in the file", || lines(&std::fs::read(&path).unwrap()).len() > 2);
    terminate(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert!(String::from_utf8(std::fs::read(&path).unwrap()).unwrap().contains(" - Greetings from "));
}

#[test]
fn sighup_after_a_rotation_switches_to_the_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.log");
    let mut child = plain_command(&to_file(&path)).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"before\n").unwrap();
    wait_until("lines in the file", || std::fs::read(&path).is_ok_and(|content| content == b"before\n"));
    let rotated = directory.path().join("x.log.1");
    std::fs::rename(&path, &rotated).unwrap();
    signal(&child, Signal::SIGHUP);
    // The signal is asynchronous: lines may still reach the old file, but each line is in one of the two.
    let mut sent = 0;
    while !path.exists() {
        stdin.write_all(b"after\n").unwrap();
        sent += 1;
        std::thread::yield_now();
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let both = [std::fs::read(&rotated).unwrap(), std::fs::read(&path).unwrap()].concat();
    assert_eq!(both, [b"before\n".to_vec(), b"after\n".repeat(sent)].concat());
}

#[test]
fn a_full_disk_stops_the_writer_and_lost_lines_are_counted() {
    let mut child = plain_command(&["--to-file", "/dev/full", "--drain-timeout", "50ms"]).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"one\ntwo\n").unwrap();
    wait_for_log(&mut child, "event=append_failed");
    terminate(&child);
    let log = wait_for_log(&mut child, "could not be appended to /dev/full: No space");
    assert!(log.contains("2 lines could not be appended to /dev/full"), "{log}");
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn line_begun_before_a_rotation_ends_in_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.log");
    let mut child = plain_command(&to_file(&path)).spawn().unwrap();
    limit(&child, Resource::RLIMIT_FSIZE, 4);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"0123456789\n").unwrap();
    let log = wait_for_log(&mut child, "cannot append");
    assert_eq!(std::fs::read(&path).unwrap(), b"0123", "{log}");
    let rotated = directory.path().join("x.log.1");
    std::fs::rename(&path, &rotated).unwrap();
    signal(&child, Signal::SIGHUP);
    limit(&child, Resource::RLIMIT_FSIZE, UNLIMITED);
    stdin.write_all(b"next\n").unwrap();
    wait_until("the next line is written", || {
        [&rotated, &path]
            .iter()
            .any(|path| std::fs::read(path).is_ok_and(|content| content.ends_with(b"next\n")))
    });
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // The signal may come before or after the next line.
    let old = std::fs::read(&rotated).unwrap();
    let new = std::fs::read(&path).unwrap_or_default();
    assert!(old.starts_with(b"0123456789\n"), "{}", old.escape_ascii());
    assert_eq!([old, new].concat(), b"0123456789\nnext\n");
}

#[test]
fn line_of_a_writer_that_gave_up_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.log");
    let mut child =
        plain_command(&[&to_file(&path)[..], &["--drain-timeout", "50ms"]].concat()).spawn().unwrap();
    limit(&child, Resource::RLIMIT_FSIZE, 4);
    child.stdin.as_mut().unwrap().write_all(b"0123456789\n").unwrap();
    wait_for_log(&mut child, "event=append_failed");
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(std::fs::read(&path).unwrap(), b"0123");

    let mut next = plain_command(&to_file(&path)).spawn().unwrap();
    next.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    assert_eq!(next.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read(&path).unwrap(), b"0123\none\ntwo\n");
}

#[test]
fn rotated_away_file_keeps_the_newline_meant_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.log");
    std::fs::write(&path, b"0123").unwrap();
    let mut child = plain_command(&to_file(&path)).spawn().unwrap();
    limit(&child, Resource::RLIMIT_FSIZE, 4);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"line\n").unwrap();
    wait_for_log(&mut child, "event=append_failed");
    std::fs::rename(&path, directory.path().join("x.log.1")).unwrap();
    signal(&child, Signal::SIGHUP);
    wait_until("the new file", || path.exists());
    limit(&child, Resource::RLIMIT_FSIZE, UNLIMITED);
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read(&path).unwrap(), b"line\n");
}

#[test]
fn an_unusable_path_is_named() {
    let output = plain_command(&["--to-file", "/does/not/exist/x.log"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot append to /does/not/exist/x.log"), "{}", stderr(&output));
}

/// Builds the command without `--host`, which makes no sense here and is refused.
fn plain_command(arguments: &[&str]) -> std::process::Command {
    let mut plain = std::process::Command::new(env!("CARGO_BIN_EXE_logsend"));
    plain.args(arguments).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    plain
}
