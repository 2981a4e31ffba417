//! `logd stats` next to a running daemon: the figures of the page, for terminals and scripts.

use crate::client::{self, send};
use crate::daemon::Logd;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

fn stats(admin: SocketAddr, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logd"));
    command.env_clear().args(["stats", "--admin", &admin.to_string()]).args(flags).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Returns the words that follow the row's name.
#[track_caller]
fn row<'a>(shown: &'a str, name: &str) -> Vec<&'a str> {
    let rest = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    rest.unwrap_or_else(|| panic!("no {name} in {shown}")).split_whitespace().collect()
}

#[test]
fn stats_are_plain_text() {
    let logd = Logd::start(&["--rotate-bytes", "1KiB", "--no-gzip", "--file", "odd\x1b[2Jname"]);
    for _ in 0..3 {
        send(logd.address(), &b"x".repeat(600)).unwrap();
    }
    logd.counts("receipts_total", 3);
    let open = client::connect(logd.address());
    logd.counts("connections_total", 4);
    logd.counts("connections_open", 1);
    let Output { status, stdout, stderr } = stats(logd.admin_address(), &[]).output().unwrap();
    let shown = text(&stdout);
    assert!(status.success() && stderr.is_empty(), "{}", text(&stderr));
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.contains("odd\u{fffd}[2Jname: ready\n"), "{shown}");
    assert_eq!(row(shown, "lines"), ["0/s", "3"]);
    assert_eq!(row(shown, "received"), ["0", "B/s", "1.8", "KiB"]);
    assert_eq!(row(shown, "connections"), ["1", "4"]);
    assert_eq!(row(shown, "receipts"), ["3"]);
    assert_eq!(row(shown, "file"), ["601", "B", "of", "1.0", "KiB"]);
    assert_eq!(row(shown, "rotated")[..7], ["2", "of", "16", "files,", "1.2", "KiB", "of"]);
    assert_eq!(row(shown, "disk")[2], "of");
    assert_eq!(row(shown, "127.0.0.1"), ["1.8", "KiB", "4", "1"]);
    drop(open);
}

#[test]
fn stats_know_the_page_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let logd = Logd::start(&["--page-token", file.to_str().unwrap()]);
    let refused = stats(logd.admin_address(), &[]).output().unwrap();
    assert!(!refused.status.success() && text(&refused.stderr).contains("401"), "{}", text(&refused.stderr));
    let shown = stats(logd.admin_address(), &["--page-token", file.to_str().unwrap()]).output().unwrap();
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert_eq!(row(text(&shown.stdout), "connections"), ["0", "0"]);
}

#[test]
fn stats_show_why_it_is_not_ready() {
    let logd = Logd::start(&["--rotate-bytes", "0"]);
    logd.limit(nix::sys::resource::Resource::RLIMIT_FSIZE, 1000);
    let mut stream = client::connect(logd.address());
    let _ = stream.write_all(&b"line\n".repeat(1000));
    logd.counts("blocked", 1);
    let output = stats(logd.admin_address(), &[]).output().unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains(": not ready: file: cannot write"), "{shown}");
    assert_ne!(row(shown, "failures"), ["0"]);
}

#[test]
fn json_stats_are_one_object() {
    let logd = Logd::start(&[]);
    send(logd.address(), b"one\ntwo\n").unwrap();
    logd.counts("receipts_total", 1);
    // The daemon's own variable gives the address: a user inside its container need not know it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_logd"));
    command.env_clear().args(["stats", "--json"]).env("LOGD_ADMIN", logd.admin_address().to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 1);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["lines"], &told["receipts"], &told["reasons"]), (&2.into(), &1.into(), &"".into()));
    assert_eq!(told["peers"][0]["address"], "127.0.0.1");
}

/// `logd stats --watch` and what it has printed; killed when dropped.
struct Watch {
    child: Child,
    lines: Box<dyn Iterator<Item = String>>,
}

impl Watch {
    fn start(admin: SocketAddr) -> Watch {
        let mut child = stats(admin, &["--watch"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        Watch { child, lines: Box::new(lines) }
    }

    /// Returns the row's words at its next appearance.
    fn next(&mut self, name: &str) -> Vec<String> {
        let line = self.lines.find(|line| {
            assert!(!line.chars().any(char::is_control), "for a file, not for a terminal: {line:?}");
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '))
        });
        row(&line.unwrap(), name).into_iter().map(str::to_owned).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watch_continues_after_a_restart() {
    // The port is bound without listening: no other process gets it while the daemon is away.
    let port = tokio::net::TcpSocket::new_v4().unwrap();
    port.set_reuseaddr(true).unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let admin = port.local_addr().unwrap();
    let logd = Logd::start(&["--admin", &admin.to_string()]);
    let mut watch = Watch::start(admin);
    assert_eq!(watch.next("lines")[1], "0");
    send(logd.address(), b"one\ntwo\n").unwrap();
    let mut rows = vec![watch.next("lines")];
    while rows.last().unwrap()[1] != "2" {
        rows.push(watch.next("lines"));
    }
    rows.extend((0..2).map(|_| watch.next("lines")));
    assert!(rows.iter().any(|row| row[0] != "0/s" && row[1] == "2" && row[2].ends_with('█')), "{rows:?}");
    let last = rows.last().unwrap();
    assert!(last[1] == "2" && last[2].contains('█'), "what was is still in the plot: {rows:?}");

    logd.kill9();
    let logd = Logd::start(&["--admin", &admin.to_string()]);
    let mut again = watch.next("lines");
    while again[1] == "2" {
        // Printed before the daemon was killed.
        again = watch.next("lines");
    }
    assert_eq!((again[0].as_str(), again[1].as_str()), ("0/s", "0"));
    send(logd.address(), b"three\n").unwrap();
    while watch.next("lines")[1] != "1" {}
}

/// Returns the command's one line on stderr.
#[track_caller]
fn failure(mut command: Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!((status.code(), stdout.len()), (Some(code), 0), "{}", text(&stderr));
    assert_eq!(text(&stderr).lines().count(), 1, "{}", text(&stderr));
    text(&stderr).to_owned()
}

#[test]
fn unreachable_daemon_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for flags in [&[][..], &["--watch"], &["--json"]] {
        let said = failure(stats(nobody, flags), 75);
        assert!(said.contains(&format!("{nobody}; is logd running")) && said.contains("--admin"), "{said}");
    }
    let mut none = Command::new(env!("CARGO_BIN_EXE_logd"));
    none.env_clear().args(["stats", "--admin", "none"]);
    assert!(failure(none, 64).contains("its --admin is none"));
}

#[test]
fn other_server_is_named_safely() {
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(3 << 20));
    for (answer, code, expected) in [
        (
            "HTTP/1.1 404 Not\x1b[2JFound\r\n\r\n",
            1,
            "does not serve logd's statistics, see --admin: HTTP/1.1 404",
        ),
        ("HTTP/1.1 503 Busy\r\n\r\n24 streams are open already\n", 1, "503 Busy 24 streams are open already"),
        ("HTTP/1.1 200 OK\r\n\r\ndata: {\"cycles\":1}\n", 1, "is not from logd: see --admin"),
        (&long, 1, "is not from logd"),
        ("", 75, "is logd running"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, answer) = (listener.local_addr().unwrap(), answer.to_owned());
        let stranger = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        });
        let said = failure(stats(address, &[]), code);
        assert!(said.contains(expected) && said.contains(&address.to_string()), "{said}");
        assert!(!said.trim_end().chars().any(char::is_control), "{said:?}");
        stranger.join().unwrap();
    }
}

#[test]
#[ignore = "needs script of util-linux: just test-programs"]
fn terminal_is_redrawn_each_second() {
    let logd = Logd::start(&[]);
    send(logd.address(), b"one\n").unwrap();
    let program =
        format!("exec {} stats --watch --admin {}", env!("CARGO_BIN_EXE_logd"), logd.admin_address());
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-c", &program, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    let mut terminal = terminal.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = BufReader::new(terminal.stdout.take().unwrap()).lines().map(Result::unwrap);
    for _ in 0..2 {
        // Drawing starts in the upper left corner of an empty screen.
        let head = seen.find(|line| line.contains("\x1b[H\x1b[2Jlogd ")).unwrap();
        assert!(head.trim_end().ends_with("node_log: ready"), "{head:?}");
        let lines = seen.find(|line| line.starts_with("lines ")).unwrap();
        assert!(lines.contains("0/s") && lines.trim_end().ends_with('▁'), "{lines:?}");
    }
    terminal.kill().unwrap();
    terminal.wait().unwrap();
}
