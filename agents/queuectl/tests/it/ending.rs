//! The end of a worker: 0 only by the server's verdict, never after a signal.

use crate::queuectl::{command, stderr, stdout, work, worker};
use crate::server::Server;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use trial::{is_gone, processes_in, signal, wait_until};

/// Waits until the worker's command has written `what`.
pub(crate) fn wait_for_output(child: &mut Child, what: &str) {
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), what);
}

const WAITS: &str = "echo begun; while :; do read x || sleep 60 & wait; done";

#[test]
fn signal_returns_the_item_and_exits_with_75() {
    for sent in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::with(&["a", "b"]);
        let mut child = worker(&server, &[], WAITS);
        wait_for_output(&mut child, "begun");
        signal(&child, sent);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{sent}: {}", stderr(&output));
        let queue = server.queue();
        assert_eq!(queue.nacked, [("a".to_owned(), String::new(), true)], "{sent}");
        assert_eq!((queue.ready.len(), queue.ready[0].attempts, queue.leased.len()), (2, 0, 0), "{sent}");
    }
}

#[test]
fn signal_during_start_exits_with_75() {
    for sent in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::with(&["a"]);
        let directory = tempfile::tempdir().unwrap();
        // The start waits until the other end of this pipe is closed.
        let config = directory.path().join("config");
        mkfifo(&config, Mode::S_IRWXU).unwrap();
        let mut run = command(&server.url(), ["run", "-q", "q", "--config"]);
        let child = run.arg(&config).args(["--", "true"]).spawn().unwrap();
        let writer = std::fs::File::create(&config).unwrap();
        signal(&child, sent);
        drop(writer);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{sent}: {}", stderr(&output));
        assert!(server.queue().acked.is_empty(), "{sent}");
    }
}

#[test]
fn exit_code_0_after_a_signal_is_no_ack() {
    let server = Server::with(&["a"]);
    let script = "trap 'echo bye; exit 0' TERM; echo begun; while :; do :; done";
    let mut child = worker(&server, &[], script);
    wait_for_output(&mut child, "begun");
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(75), "bye\n"), "{}", stderr(&output));
    assert!(server.queue().acked.is_empty());
    assert_eq!(server.queue().ready.len(), 1);
}

/// The shell is the command, and the loop is its child.
#[test]
fn sigkill_ends_the_command_and_what_it_started() {
    for jobs in ["1", "3"] {
        let server = Server::with(&["a"]);
        let script = "sh -c 'while :; do sleep 60; done' & echo $$ $!; wait";
        let mut child = worker(&server, &["-j", jobs], script);
        let mut line = String::new();
        BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let pids: Vec<Pid> = line.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
        assert_eq!(pids.len(), 2, "{line}");
        signal(&child, Signal::SIGKILL);
        // No process holds the pipes any more.
        child.wait_with_output().unwrap();
        for pid in pids {
            wait_until("it is gone", || is_gone(pid));
        }
    }
}

#[test]
fn sigkill_at_any_moment_leaves_no_command_behind() {
    for round in 0..24_usize {
        let items: Vec<String> = (0..200).map(|item| item.to_string()).collect();
        let server = Server::with(&items.iter().map(String::as_str).collect::<Vec<_>>());
        let directory = tempfile::tempdir().unwrap();
        let mut run = command(&server.url(), ["run", "-q", "q", "-j", "4", "--", "sh", "-c"]);
        // Everything that the worker starts is found by this working directory.
        let mut child = run.arg("sleep 60 & wait").current_dir(directory.path()).spawn().unwrap();
        server.wait_until("some are leased", |queue| queue.leased.len() > round % 4);
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        wait_until("nobody is left", || processes_in(directory.path()).is_empty());
    }
}

#[test]
fn command_that_ignores_the_signal_is_killed() {
    let server = Server::with(&["a"]);
    let script = "trap '' TERM; echo begun; while :; do :; done";
    let mut child = worker(&server, &["--grace", "100ms"], script);
    wait_for_output(&mut child, "begun");
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    let queue = server.queue();
    assert_eq!((queue.ready.len(), queue.leased.len()), (1, 0));
}

#[test]
fn second_signal_aborts() {
    let server = Server::with(&["a"]);
    let script = "trap 'echo heard' TERM; echo begun; while :; do :; done";
    let mut child = worker(&server, &["--grace", "1h", "--drain-timeout", "2h"], script);
    wait_for_output(&mut child, "begun");
    signal(&child, Signal::SIGTERM);
    wait_for_output(&mut child, "heard");
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
}

#[test]
fn unstarted_items_are_released_at_once() {
    let server = Server::with(&["a", "b", "c"]);
    let directory = tempfile::tempdir().unwrap();
    let end = directory.path().join("end");
    let script = "trap '' TERM; echo begun; while [ ! -e $0 ]; do :; done";
    let arguments = [
        "run",
        "-q",
        "q",
        "--batch",
        "3",
        "--grace",
        "1h",
        "--drain-timeout",
        "2h",
        "--",
        "sh",
        "-c",
        script,
    ];
    let mut child = command(&server.url(), arguments).arg(&end).spawn().unwrap();
    wait_for_output(&mut child, "begun");
    signal(&child, Signal::SIGTERM);
    server.wait_until("b and c are back", |queue| queue.nacked.len() == 2);
    assert_eq!(server.queue().leased.len(), 1);
    std::fs::write(end, "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert_eq!(server.queue().ready.len(), 3);
}

#[test]
fn signal_ends_the_wait_for_items() {
    let server = Server::start();
    let child = worker(&server, &[], "exit 0");
    server.wait_until("it waits", |queue| queue.requests == ["lease"]);
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert_eq!(server.queue().requests, ["lease"]);
}

#[test]
fn signal_ends_the_wait_for_a_server() {
    let mut server = Server::start();
    server.vanish();
    let mut child = worker(&server, &[], "exit 0");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    while !log.contains("event=server_lost") {
        assert!(stderr.read_line(&mut log).unwrap() > 0, "{log}");
    }
    signal(&child, Signal::SIGTERM);
    let _ = stderr.read_to_string(&mut log);
    assert_eq!(child.wait().unwrap().code(), Some(75), "{log}");
}

#[test]
fn worker_waits_for_leased_items_of_others() {
    let server = Server::start();
    let waiting = worker(&server, &[], "echo $ITEM");
    server.wait_until("it waits", |queue| queue.requests == ["lease"]);
    let mut holding = {
        server.put(json!({"body": "first"}));
        server.wait_until("it took the first", |queue| queue.acked == ["first"]);
        worker(&server, &[], WAITS)
    };
    server.wait_until("both wait", |queue| queue.requests.len() >= 3);
    // The first worker ends after the first item, because it got the verdict `drained` before another item
    // came.
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "first\n"), "{}", stderr(&output));
    holding.kill().unwrap();
    holding.wait().unwrap();
}

#[test]
fn all_workers_end_with_the_last_item() {
    let server = Server::with(&["a"]);
    let directory = tempfile::tempdir().unwrap();
    let end = directory.path().join("end");
    let script = "while [ ! -e $0 ]; do :; done";
    let start =
        || command(&server.url(), ["run", "-q", "q", "--", "sh", "-c", script]).arg(&end).spawn().unwrap();
    let mut workers: Vec<Child> = (0..5).map(|_| start()).collect();
    server.wait_until("one works, four wait", |queue| queue.requests.len() == 5 && queue.leased.len() == 1);
    assert!(workers.iter_mut().all(|worker| worker.try_wait().unwrap().is_none()));
    std::fs::write(&end, "").unwrap();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn server_judges_the_final_state() {
    let server = Server::with(&["a"]);
    let output = work(&server, &["--until", "empty", "-j", "2"], "exit 0");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = work(&server, &["--until", "soon"], "exit 0");
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--until"), "{}", stderr(&output));
}

#[test]
fn pause_is_reported_once_and_waited_out() {
    let server = Server::with(&["a"]);
    server.queue().paused = true;
    let child = worker(&server, &[], "exit 0");
    server.wait_until("asked again", |queue| queue.requests.len() >= 4);
    server.queue().paused = false;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert_eq!(said.matches("event=queue_paused queue=q").count(), 1, "{said}");
    assert!(said.contains("event=queue_resumed queue=q"), "{said}");
}

#[test]
fn items_that_died_are_part_of_the_verdict() {
    let server = Server::with(&["a"]);
    server.queue().failed = 5;
    for flags in [&[][..], &["-j", "3"], &["--until", "empty"]] {
        let output = work(&server, flags, "exit 0");
        assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
        let said = stderr(&output);
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("queuectl: queue q is "), "{said}");
        assert!(last.contains("5 items died") && last.contains("queuectl dead redrive -q q --all"), "{said}");
    }
    let output = work(&server, &["--allow-dead"], "exit 0");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    server.queue().failed = 0;
    assert_eq!(work(&server, &[], "exit 0").status.code(), Some(0));
}

/// Needs the right to make namespaces, which root has on most machines.
#[test]
fn process_1_reaps_zombies_and_takes_signals() {
    let can = std::process::Command::new("unshare").args(["-pf", "--mount-proc", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        return eprintln!("no namespaces here: not checked");
    }
    let server = Server::with(&["a"]);
    // An orphan ends and is adopted by process 1; the loop ends when no trace of it is left.
    let script = "sh -c 'sh -c \"exit 0\" & exit 0'; \
        while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; \
        tr '\\0' ' ' < /proc/1/cmdline; kill -TERM 1; while :; do :; done";
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-pf", "--mount-proc", env!("CARGO_BIN_EXE_queuectl"), "run", "-q", "q"]);
    unshare.args(["--server", &server.url(), "--", "sh", "-c", script]);
    let output = unshare.stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stdout(&output).contains("queuectl run"), "{}", stdout(&output));
    wait_until("the item is back", || server.queue().ready.len() == 1);
}
