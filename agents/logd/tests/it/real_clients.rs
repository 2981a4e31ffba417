//! The clients that people have.

use crate::daemon::Logd;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use trial::wait_until;

const LINES: &[u8] = b"first\n2026-11-21 second\n\nlast without newline";
const KEPT: &[u8] = b"first\n2026-11-21 second\n\nlast without newline\n";

/// Runs the program with this input to its end.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{program} is not installed: {e}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    output
}

fn port(logd: &Logd) -> String {
    logd.address().port().to_string()
}

#[test]
#[ignore = "needs nc of OpenBSD: just test-programs"]
fn openbsd_nc_ends_with_the_receipt() {
    let logd = Logd::start(&[]);
    run("nc", &["-N", "127.0.0.1", &port(&logd)], LINES);
    assert_eq!(logd.file(), KEPT);
    logd.counts("receipts_total", 1);
}

#[test]
#[ignore = "needs busybox: just test-programs"]
fn busybox_nc_ends_with_the_receipt() {
    let logd = Logd::start(&[]);
    run("busybox", &["nc", "127.0.0.1", &port(&logd)], LINES);
    assert_eq!(logd.file(), KEPT);
    logd.counts("receipts_total", 1);
}

#[test]
#[ignore = "needs bash: just test-programs"]
fn bash_writes_to_its_dev_tcp() {
    let logd = Logd::start(&[]);
    run("bash", &["-c", "exec cat > /dev/tcp/127.0.0.1/$0", &port(&logd)], LINES);
    wait_until("the lines are there", || logd.file() == KEPT);
}

#[test]
#[ignore = "needs logger: just test-programs"]
fn logger_counts_octets_or_ends_lines() {
    for framing in [&["--octet-count"][..], &[]] {
        let logd = Logd::start(&[]);
        let port = port(&logd);
        let to = [
            "--tcp",
            "--server",
            "127.0.0.1",
            "--port",
            &port,
            "--priority",
            "user.notice",
            "--tag",
            "tests",
        ];
        run("logger", &[&to[..], framing].concat(), b"first\n2026-11-21 second\n");
        wait_until("the lines are there", || logd.metric("lines_total") == 2);
        let text = String::from_utf8(logd.file()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().all(|line| line.starts_with("<13>") && line.contains("tests")), "{text}");
        assert!(lines[0].ends_with("first") && lines[1].ends_with("2026-11-21 second"), "{text}");
        assert_eq!((lines.len(), logd.metric("framing_errors_total")), (2, 0));
    }
}

#[test]
#[ignore = "needs socat: just test-programs"]
fn socat_and_the_receipt() {
    let logd = Logd::start(&[]);
    run("socat", &["-t60", "-", &format!("TCP:127.0.0.1:{}", port(&logd))], LINES);
    assert_eq!(logd.file(), KEPT);
    logd.counts("receipts_total", 1);
}
