//! Tests with the clients that people use.

use crate::client;
use crate::daemon::Logd;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsRawFd;
use std::process::{Command, Output, Stdio};
use trial::wait_until;

const LINES: &[u8] = b"first\n2026-11-21 second\n\nlast without newline";
const KEPT: &[u8] = b"first\n2026-11-21 second\n\nlast without newline\n";

/// Runs the program to its end with this input.
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
        // Lines are counted before they are written.
        logd.counts("lines_total", 2);
        wait_until("the lines are there", || logd.file().iter().filter(|byte| **byte == b'\n').count() >= 2);
        let text = String::from_utf8(logd.file()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().all(|line| line.starts_with("<13>") && line.contains("tests")), "{text}");
        assert!(lines[0].ends_with("first") && lines[1].ends_with("2026-11-21 second"), "{text}");
        assert_eq!((lines.len(), logd.metric("framing_errors_total")), (2, 0));
    }
}

#[test]
#[ignore = "needs python3: just test-programs"]
fn messages_of_python_that_end_with_nul_are_there_at_once() {
    const PROGRAM: &str = "
import logging, logging.handlers, socket, sys
handler = logging.handlers.SysLogHandler(('127.0.0.1', int(sys.argv[1])), socktype=socket.SOCK_STREAM)
logger = logging.getLogger('tests')
logger.addHandler(handler)
try:
    1 / 0
except ZeroDivisionError:
    logger.exception('first')
logger.warning('second\\nof two lines')
logger.warning('third')
sys.stdin.read()
";
    let logd = Logd::start(&[]);
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM, &port(&logd)]).stdin(Stdio::piped());
    let mut python = python.spawn().unwrap_or_else(|e| panic!("python3 is not installed: {e}"));
    wait_until("the third message is there", || logd.file().ends_with(b"<12>third\n"));
    python.kill().unwrap();
    python.wait().unwrap();
    wait_until("the connection is gone", || logd.metric("connections_open") == 0);
    let text = String::from_utf8(logd.file()).unwrap();
    assert!(text.starts_with("<11>first\nTraceback (most recent call last):\n"), "{text}");
    assert!(text.ends_with("division by zero\n<12>second\nof two lines\n<12>third\n"), "{text}");
    assert!(!text.contains('\0') && logd.metric("framing_errors_total") == 0);
}

#[test]
#[ignore = "needs haproxy: just test-programs"]
fn haproxy_names_the_peer_and_passes_the_receipt_on() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let logd = Logd::start(&["--proxy-protocol", "--format", "stamped"]);
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        // haproxy finds the inherited socket by its number.
        fcntl(&door, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let (address, descriptor, server) = (door.local_addr().unwrap(), door.as_raw_fd(), logd.address());
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 1m\n timeout client 5m\n timeout server 5m\n\
             listen logd\n bind fd@{descriptor}\n server logd {server} {version}\n"
        );
        std::fs::write(logd.path("haproxy.cfg"), configuration).unwrap();
        let mut haproxy = Command::new("haproxy").arg("-f").arg(logd.path("haproxy.cfg")).spawn();
        let haproxy = haproxy.as_mut().unwrap_or_else(|e| panic!("haproxy is not installed: {e}"));
        let mut stream = client::connect(address);
        let peer = stream.local_addr().unwrap();
        stream.write_all(b"LOGD-RECEIPT 1\n<13>line\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        haproxy.kill().unwrap();
        haproxy.wait().unwrap();
        assert_eq!(answer, "LOGD-RECEIPT 1 9\n");
        assert!(logd.file().ends_with(format!(" {peer} <13>line\n").as_bytes()), "{version}");
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
