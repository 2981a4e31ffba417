//! Peers that are not logd: whatever they answer, the lines are kept and the exit code is not 0.

use crate::logsend::{command, run, stderr, wait_for_log};
use crate::receiver::{Act, Receiver};
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use trial::{run_to_end, wait_until, with_input};

const TWO_LINES: &[u8] = b"one\ntwo\n";

/// Tries for a moment to deliver two lines to `port`.
fn tried(port: u16, flags: &[&str]) -> Output {
    tried_for("1s", port, flags)
}

fn tried_for(give_up: &str, port: u16, flags: &[&str]) -> Output {
    let arguments = [&["--give-up", give_up, "--receipt-timeout", "1h"], flags].concat();
    run(port, &arguments, TWO_LINES)
}

fn assert_undelivered(output: &Output, why: &str) {
    let log = stderr(output);
    assert_eq!(output.status.code(), Some(75), "{log}");
    assert!(log.contains("2 lines undelivered") && log.contains(why), "{why:?} in {log}");
    assert!(log.contains("lines=0 "), "{log}");
}

#[test]
fn answers_of_other_servers_are_quoted() {
    const HTTP: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    const WHY: &str =
        "this is not logd: it answered \"HTTP/1.1 400 Bad Request\" (an HTTP server or an admin endpoint?";
    for act in [Act::Answer(HTTP), Act::AnswerAtOnce(HTTP)] {
        for flags in [&["--receipt", "explicit"][..], &["--receipt", "close"]] {
            let receiver = Receiver::start(&[act]);
            assert_undelivered(&tried(receiver.port(), flags), WHY);
        }
    }
}

#[test]
fn only_the_right_count_and_an_orderly_end_are_a_receipt() {
    for (act, why) in [
        (Act::Close, "closed without a receipt: not logd, a logd older than this logsend"),
        (Act::ReceiptForLess, "logd received 7 of 8 bytes"),
        (Act::ReceiptThenReset, "the connection broke before the receipt"),
        (Act::Answer("LOGD-RECEIPT 1 8"), "closed in the middle of the receipt"),
        (Act::Answer("LOGD-RECEIPT 1 8\nand more"), "this is not logd"),
    ] {
        let receiver = Receiver::start(&[act]);
        assert_undelivered(&tried(receiver.port(), &[]), why);
        // The batch is kept and sent again until a good answer comes.
        let receiver = Receiver::start(&[act, Act::Receipt]);
        let output = run(receiver.port(), &[], TWO_LINES);
        assert_eq!(output.status.code(), Some(0), "{act:?}: {}", stderr(&output));
        assert_eq!(receiver.receipted(), TWO_LINES, "{act:?}");
    }
}

#[test]
fn silence_is_not_a_receipt() {
    let receiver = Receiver::start(&[Act::NoAnswer]);
    let output = run(receiver.port(), &["--give-up", "500ms", "--receipt-timeout", "50ms"], TWO_LINES);
    assert_undelivered(&output, "no receipt within 50ms");
}

#[test]
fn receipt_close_sends_no_request_and_trusts_an_orderly_close() {
    let receiver = Receiver::start(&[Act::Close]);
    let output = run(receiver.port(), &["--receipt", "close"], TWO_LINES);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(receiver.receipted(), TWO_LINES);
}

#[test]
fn hosts_that_can_never_resolve_are_usage_errors() {
    for (host, right) in [
        ("host:6666", "--host host --port 6666"),
        ("tcp://10.0.0.7", "--host 10.0.0.7"),
        ("[::1]:6666", "--host ::1 --port 6666"),
        ("", "--host"),
    ] {
        let mut logsend = Command::new(env!("CARGO_BIN_EXE_logsend"));
        let output = run_to_end(logsend.env_clear().args(["--host", host, "--give-up", "0s"]));
        let log = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{log}");
        assert!(log.contains("--host") && log.contains(right) && log.lines().count() == 1, "{log}");
    }
}

/// A program that listens on `port`, killed when it is dropped.
struct Program(Child);

impl Program {
    fn start(command: &mut Command, port: u16) -> Program {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Program(quiet.spawn().unwrap());
        wait_until("it listens", || listens(port));
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a port that is free now. It is not reserved: not every program can listen on a reserved port.
fn unreserved_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// True if a program listens on `port`. Checked without a connection, since nc takes only one.
fn listens(port: u16) -> bool {
    let listening = format!(":{port:04X} 00000000:0000 0A ");
    std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&listening)
}

fn haproxy(directory: &std::path::Path, port: u16, backend: u16) -> Program {
    let config = directory.join("haproxy.cfg");
    let text = format!(
        "defaults\n mode tcp\n timeout connect 1s\n timeout client 10s\n timeout server 10s\n retries 0\n\
         listen logd\n bind 127.0.0.1:{port}\n server logd 127.0.0.1:{backend}\n"
    );
    std::fs::write(&config, text).unwrap();
    Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(config), port)
}

#[test]
#[ignore = "needs haproxy: just test-programs"]
fn haproxy_gives_receipts_only_with_a_backend() {
    let directory = tempfile::tempdir().unwrap();
    let (front, back) = (unreserved_port(), unreserved_port());
    let _haproxy = haproxy(directory.path(), front, back);
    let output = tried(front, &[]);
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 lines undelivered"), "{}", stderr(&output));
    // Send the same lines after the backend has started.
    let mut child = command(front, [] as [&str; 0]).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(TWO_LINES).unwrap();
    wait_for_log(&mut child, "event=server_lost");
    let receiver = Receiver::on(TcpListener::bind(("127.0.0.1", back)).unwrap(), &[Act::Receipt]);
    let output = with_input(child, b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(receiver.receipted(), TWO_LINES);
}

#[test]
#[ignore = "needs nc and an HTTP server of python: just test-programs"]
fn nc_and_a_web_server_are_not_taken_for_logd() {
    let port = unreserved_port();
    let nc = |port: u16| {
        Program::start(Command::new("nc").args(["-l", "-d", "127.0.0.1", &port.to_string()]), port)
    };
    let silent = nc(port);
    assert_eq!(tried(port, &[]).status.code(), Some(75));
    drop(silent);
    let port = unreserved_port();
    let _silent = nc(port);
    let output = run(port, &["--receipt", "close"], TWO_LINES);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let port = unreserved_port();
    let server = ["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()];
    let _server = Program::start(Command::new("python3").args(server), port);
    for flags in [&[][..], &["--receipt", "close"]] {
        // Long enough for an answer of Python on a busy machine.
        assert_undelivered(&tried_for("5s", port, flags), "this is not logd: it answered");
    }
}
