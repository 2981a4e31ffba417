//! The spool: lines that logd cannot take now outlive its absence, the process, and a SIGKILL.

use crate::logsend::{command, run, stderr, terminate, wait_for_log};
use crate::receiver::{Act, Receiver, first_appearances, free_port, lines, listen_on, numbered};
use nix::sys::signal::Signal;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use trial::{signal, wait_until, with_input};

fn spooling<'a>(directory: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["--spool", directory.to_str().unwrap()], more].concat()
}

/// Reads the segment files, oldest first.
fn spooled(directory: &Path) -> Vec<u8> {
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "lines"));
    files.sort();
    // A file may be delivered and removed in the meantime.
    files.into_iter().flat_map(|path| std::fs::read(path).unwrap_or_default()).collect()
}

fn start(port: u16, arguments: Vec<&str>) -> Child {
    command(port, arguments).spawn().unwrap()
}

#[test]
fn the_writer_goes_on_while_logd_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut child = start(port, spooling(directory.path(), &["--buffer-bytes", "8KiB"]));
    let input = numbered(0..20_000);
    // The input is far larger than the buffer; this returns only because the spool takes it.
    child.stdin.as_mut().unwrap().write_all(&input).unwrap();
    wait_until("all is spooled", || spooled(directory.path()) == input);
    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    let output = with_input(child, b"and after\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(receiver.receipted() == [input, b"and after\n".to_vec()].concat());
    assert!(spooled(directory.path()).is_empty(), "the spool is empty at the end");
}

#[test]
fn sigterm_spools_the_rest_for_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut child = start(port, spooling(directory.path(), &[]));
    child.stdin.as_mut().unwrap().write_all(b"one\ntwo\nhalf a li").unwrap();
    wait_for_log(&mut child, "event=server_lost");
    terminate(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(spooled(directory.path()), b"one\ntwo\nhalf a li\n");

    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    let output = run(port, &spooling(directory.path(), &[]), b"three\n");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(receiver.receipted(), b"one\ntwo\nhalf a li\nthree\n");
    assert!(stderr(&output).contains("event=spool_found"), "{}", stderr(&output));
}

#[test]
fn give_up_spools_the_rest_and_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(free_port(), &spooling(directory.path(), &["--give-up", "10ms"]), b"one\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(spooled(directory.path()), b"one\n");
}

#[test]
fn restarts_under_load_lose_and_repeat_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let fickle = [Act::Receipt, Act::ResetAfter(700), Act::Receipt, Act::ResetInsteadOfReceipt, Act::Reset];
    let acts: Vec<Act> = fickle.iter().cycle().take(120).chain(&[Act::Receipt]).copied().collect();
    let receiver = Receiver::start(&acts);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let input = numbered(0..8_000);
    let written = input.clone();
    let writing = std::thread::spawn(move || writer.write_all(&written).unwrap());
    let flags = ["--batch-bytes", "4KiB", "--buffer-bytes", "8KiB", "--spool-bytes", "2MiB"];
    while !writing.is_finished() {
        let before = receiver.connections();
        let mut next = command(receiver.port(), spooling(directory.path(), &flags));
        let child = next.stdin(reader.try_clone().unwrap()).spawn().unwrap();
        receiver.wait_until("some batches", |receiver| {
            receiver.connections() > before + 7 || writing.is_finished()
        });
        terminate(&child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    writing.join().unwrap();
    let mut last = command(receiver.port(), spooling(directory.path(), &flags));
    assert_eq!(last.stdin(reader).spawn().unwrap().wait().unwrap().code(), Some(0));
    assert!(receiver.receipted() == input, "each line exactly once among what was answered for, in order");
}

#[test]
fn sigkill_loses_nothing_that_was_spooled() {
    for round in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut child = start(port, spooling(directory.path(), &["--batch-bytes", "1KiB"]));
        let mut stdin = child.stdin.take().unwrap();
        let input = numbered(0..3_000);
        let written = input.clone();
        let writing = std::thread::spawn(move || drop(stdin.write_all(&written)));
        // Kill logsend while it spools, in each round a little later.
        wait_until("some is spooled", || spooled(directory.path()).len() > round * 5_000);
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        writing.join().unwrap();
        let survived = spooled(directory.path());
        let torn = survived.last() != Some(&b'\n');

        let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
        assert_eq!(run(port, &spooling(directory.path(), &[]), b"").status.code(), Some(0));
        let expected = if torn { [survived, b"\n".to_vec()].concat() } else { survived };
        assert!(receiver.receipted() == expected);
        assert!(torn || input.starts_with(&expected), "whole lines, from the first on");
    }
}

#[test]
fn sigkill_before_removal_repeats_and_loses_nothing() {
    for round in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let input = numbered(0..2_000);
        let output =
            run(port, &spooling(directory.path(), &["--batch-bytes", "1KiB", "--give-up", "1ms"]), &input);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(spooled(directory.path()) == input);

        let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
        let mut child = start(port, spooling(directory.path(), &[]));
        receiver.wait_until("some segments", |receiver| receiver.receipts() > round * 3);
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        assert_eq!(run(port, &spooling(directory.path(), &[]), b"").status.code(), Some(0));
        assert!(first_appearances(&receiver.receipted()) == input);
    }
}

#[test]
fn a_full_spool_stops_the_writer() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let flags = ["--spool-bytes", "32KiB", "--max-line", "8KiB", "--buffer-bytes", "8KiB"];
    let mut child = start(port, spooling(directory.path(), &flags));
    let input = numbered(0..20_000);
    let mut stdin = child.stdin.take().unwrap();
    let written = input.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&written).unwrap());
    wait_for_log(&mut child, "event=spool_full");
    assert!(spooled(directory.path()).len() <= 32 << 10);
    assert!(!writing.is_finished());
    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    writing.join().unwrap();
    assert!(receiver.receipted() == input);
}

#[test]
fn drop_oldest_counts_what_it_drops_and_never_stops_the_writer() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let flags = ["--spool-bytes", "32KiB", "--max-line", "8KiB", "--spool-full", "drop-oldest"];
    let mut child = start(port, spooling(directory.path(), &flags));
    let input = numbered(0..20_000);
    child.stdin.as_mut().unwrap().write_all(&input).unwrap();
    wait_until("the newest line is spooled", || {
        spooled(directory.path()).ends_with(&numbered(19_999..20_000))
    });
    assert!(spooled(directory.path()).len() <= 32 << 10);
    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    let output = with_input(child, b"");
    assert_eq!(output.status.code(), Some(0));

    let received = receiver.receipted();
    let log = stderr(&output);
    assert!(input.ends_with(&received), "without a gap");
    assert!(lines(&received).len() > 100);
    assert_newest_and_counted(&input, &received, &log);
    assert_eq!(log.matches("event=spool_full").count(), 1, "{log}");
}

/// Sets a file-size limit below the size of a batch, so that no batch can be written.
#[test]
fn drop_oldest_never_stops_the_writer_over_an_unwritable_spool() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let flags = ["--buffer-bytes", "64KiB", "--batch-bytes", "8KiB", "--spool-full", "drop-oldest"];
    let logsend = command(port, spooling(directory.path(), &flags));
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(logsend.get_program())
        .args(logsend.get_args());
    limited.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = limited.spawn().unwrap();
    let input = numbered(0..20_000);
    // The input is far larger than the buffer; this returns only because the oldest lines are dropped.
    child.stdin.as_mut().unwrap().write_all(&input).unwrap();
    let mut log = wait_for_log(&mut child, "event=spool_write_failed");
    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    let output = with_input(child, b"");
    log.push_str(&stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert_newest_and_counted(&input, &receiver.receipted(), &log);
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_drop_oldest_never_stops_the_writer_on_a_full_disk() {
    let disk = FullDisk::mount("128k");
    let port = free_port();
    let flags = ["--batch-bytes", "8KiB", "--spool-full", "drop-oldest"];
    let mut child = start(port, spooling(disk.path(), &flags));
    let input = numbered(0..50_000);
    child.stdin.as_mut().unwrap().write_all(&input).unwrap();
    wait_until("the newest line is spooled", || spooled(disk.path()).ends_with(&numbered(49_999..50_000)));
    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    let output = with_input(child, b"");
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(receiver.receipted().len() > 64 << 10, "the disk was used");
    assert_newest_and_counted(&input, &receiver.receipted(), &log);
}

/// Checks that whole lines of `input` were received in order, the newest included, and that the log counts
/// the others.
fn assert_newest_and_counted(input: &[u8], received: &[u8], log: &str) {
    let (input, received) = (lines(input), lines(received));
    assert_eq!(received.last(), input.last());
    let mut rest = input.iter();
    assert!(received.iter().all(|line| rest.any(|other| other == line)), "whole and in order");
    let missing = input.len() - received.len();
    let dropped = format!("dropped_lines={missing}");
    assert!(missing > 0 && log.contains(&dropped), "{dropped} in {log}");
}

/// A small file system, unmounted when it is dropped.
struct FullDisk(tempfile::TempDir);

impl FullDisk {
    fn mount(size: &str) -> FullDisk {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "cannot mount; are you root?");
        FullDisk(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[test]
fn a_stalled_logd_counts_as_away() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&[Act::Stall]);
    let flags = ["--buffer-bytes", "8KiB", "--receipt-timeout", "1h"];
    let mut child = start(receiver.port(), spooling(directory.path(), &flags));
    let input = numbered(0..20_000);
    let mut stdin = child.stdin.take().unwrap();
    let written = input.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&written).unwrap());
    // No attempt has failed yet, and none will for an hour.
    wait_until("all is spooled", || spooled(directory.path()) == input);
    writing.join().unwrap();
    let port = receiver.stop();
    let receiver = Receiver::on(listen_on(port), &[Act::Receipt]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(receiver.receipted() == input);
}

#[test]
fn a_second_user_of_the_spool_exits_with_75() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&[Act::Receipt]);
    let mut first = start(receiver.port(), spooling(directory.path(), &[]));
    first.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
    receiver.wait_until("the first is at work", |receiver| receiver.receipts() == 1);
    let second = run(receiver.port(), &spooling(directory.path(), &[]), b"");
    assert_eq!(second.status.code(), Some(75));
    let holder = trial::holder(first.id());
    let why = format!("logsend: another logsend {holder} uses the spool {}", directory.path().display());
    assert!(stderr(&second).contains(&why), "{}", stderr(&second));
    with_input(first, b"");
}

#[test]
fn an_unusable_spool_is_named() {
    let output = run(free_port(), &["--spool", "/proc/nope"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot use the spool /proc/nope"), "{}", stderr(&output));
}
