//! Running a command: its lines, its signals and its exit code.

use crate::logsend::{command, run, stderr, terminate};
use crate::receiver::{Act, Receiver, free_port, lines};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::process::Stdio;
use trial::{is_gone, signal, wait_until};

fn run_shell(receiver: &Receiver, flags: &[&str], script: &str) -> std::process::Output {
    let arguments = [flags, &["--", "sh", "-c", script]].concat();
    run(receiver.port(), &arguments, b"")
}

#[test]
fn both_streams_arrive_in_order_with_the_exit_code() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let script = "i=0; while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; exit 7";
    let output = run_shell(&receiver, &[], script);
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let received = receiver.receipted();
    for stream in ["out", "err"] {
        let expected: Vec<String> = (0..500).map(|i| format!("{stream} {i}\n")).collect();
        let lines: Vec<&[u8]> =
            lines(&received).into_iter().filter(|line| line.starts_with(stream.as_bytes())).collect();
        assert_eq!(lines, expected.iter().map(String::as_bytes).collect::<Vec<_>>());
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn tee_echoes_each_stream_unchanged() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let output = run_shell(&receiver, &["--tee", "--log-level", "error"], "printf 'to out'; echo to err >&2");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"to out"[..], &b"to err\n"[..]));
    let received = receiver.receipted();
    let mut both = lines(&received);
    both.sort_unstable();
    assert_eq!(both, [b"to err\n".as_slice(), b"to out\n"]);
}

#[test]
fn death_by_signal_is_128_plus_its_number() {
    let receiver = Receiver::start(&[Act::Receipt]);
    assert_eq!(run_shell(&receiver, &[], "kill -KILL $$").status.code(), Some(137));
    assert_eq!(run_shell(&receiver, &[], "kill -HUP $$").status.code(), Some(129));
}

#[test]
fn a_command_that_cannot_run_is_named() {
    let output = run(free_port(), &["--", "/does/not/exist"], b"");
    assert_eq!(output.status.code(), Some(127));
    assert!(stderr(&output).contains("cannot run /does/not/exist"), "{}", stderr(&output));
    assert_eq!(run(free_port(), &["--", "/etc/passwd"], b"").status.code(), Some(126));
}

#[test]
fn signals_reach_the_command_and_its_last_output_reaches_logd() {
    for (sent, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGUSR1, "USR1")] {
        let receiver = Receiver::start(&[Act::Receipt]);
        let script = format!("trap 'echo last words; exit 3' {name}; echo ready; while :; do read x; done");
        let child = command(receiver.port(), ["--", "sh", "-c", &script]).spawn().unwrap();
        receiver.wait_until("ready", |receiver| receiver.receipted() == b"ready\n");
        signal(&child, sent);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{name}: {}", stderr(&output));
        assert_eq!(receiver.receipted(), b"ready\nlast words\n", "{name}");
    }
}

/// Stops logsend until the command has ended, so that it finds the end and the last output at the same time.
#[test]
fn last_output_is_delivered_after_the_command_has_ended() {
    for _ in 0..10 {
        let receiver = Receiver::start(&[Act::Receipt]);
        let directory = tempfile::tempdir().unwrap();
        let script = "trap 'echo $$ > new; mv new trapped; until [ -e go ]; do :; done; echo last words; exit 3' TERM; \
                      echo ready; while :; do read x; done";
        let mut command = command(receiver.port(), ["--", "sh", "-c", script]);
        let child = command.current_dir(directory.path()).spawn().unwrap();
        receiver.wait_until("ready", |receiver| receiver.receipted() == b"ready\n");
        terminate(&child);
        let trapped = directory.path().join("trapped");
        wait_until("the signal to be passed on", || trapped.exists());
        signal(&child, Signal::SIGSTOP);
        std::fs::write(directory.path().join("go"), "").unwrap();
        let pid = std::fs::read_to_string(trapped).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        wait_until("the command's end", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
        signal(&child, Signal::SIGCONT);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert_eq!(receiver.receipted(), b"ready\nlast words\n");
    }
}

#[test]
fn a_command_that_ignores_signals_is_killed_after_the_drain_time() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let script = "trap '' TERM; echo ready; while :; do read x || :; done";
    let child =
        command(receiver.port(), ["--drain-timeout", "100ms", "--", "sh", "-c", script]).spawn().unwrap();
    receiver.wait_until("ready", |receiver| receiver.receipted() == b"ready\n");
    terminate(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
}

/// Runs logsend without a terminal, as a service. The command is the outer shell; the loop is its child.
#[test]
fn sigkill_ends_the_command_and_what_it_started() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let script = "sh -c 'while :; do sleep 60; done' & echo $$ $!; wait";
    let logsend = command(receiver.port(), ["--", "sh", "-c", script]);
    let mut without_terminal = std::process::Command::new("setsid");
    without_terminal.arg(logsend.get_program()).args(logsend.get_args());
    let mut child = without_terminal.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    receiver.wait_until("the process ids", |receiver| receiver.receipts() > 0);
    let line = String::from_utf8(receiver.receipted()).unwrap();
    let pids: Vec<Pid> = line.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    assert_eq!(pids.len(), 2, "{line}");
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    for pid in pids {
        wait_until("it is gone", || is_gone(pid));
    }
}

#[test]
fn the_command_does_not_inherit_the_spool() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let directory = tempfile::tempdir().unwrap();
    let mut logsend = command(receiver.port(), ["--", "sh", "-c", "echo ${LOGSEND_SPOOL-unset}"]);
    let output = logsend.env("LOGSEND_SPOOL", directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(receiver.receipted(), b"unset\n");
    assert!(directory.path().join("lock").exists(), "the spool was used");
}

#[test]
fn output_of_processes_left_behind_is_delivered() {
    let receiver = Receiver::start(&[Act::Receipt]);
    let output = run_shell(&receiver, &[], "{ read x; echo from a child; } <&0 & exit 4");
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(receiver.receipted(), b"from a child\n");
}

#[test]
fn undelivered_lines_exit_with_75_unless_the_command_failed() {
    for (script, code) in [("echo x", 75), ("echo x; exit 9", 9)] {
        let output = run(free_port(), &["--give-up", "50ms", "--", "sh", "-c", script], b"");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains("1 line undelivered"), "{}", stderr(&output));
    }
}

#[test]
#[ignore = "needs root, for a namespace: just test-root"]
fn root_process_1_collects_orphans_and_passes_signals_on() {
    let receiver = Receiver::start(&[Act::Receipt]);
    // Process 1 adopts an orphan that has ended. The loop waits until no zombie is left.
    let script = "trap 'exit 6' TERM; sh -c 'sh -c \"exit 0\" & exit 0'; \
        while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; \
        echo process 1 is $(tr '\\0' ' ' < /proc/1/cmdline); kill -TERM 1; while :; do read x || :; done";
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-pf", "--mount-proc", env!("CARGO_BIN_EXE_logsend"), "--host", "127.0.0.1"]);
    unshare.args(["--port", &receiver.port().to_string(), "--", "sh", "-c", script]);
    let output = unshare.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    let received = String::from_utf8(receiver.receipted()).unwrap();
    assert!(received.starts_with("process 1 is ") && received.contains("logsend"), "{received}");
}
