//! Tests of logd's page.

use crate::agent;
use crate::webdriver::Browser;
use crate::{HOSTILE, assert_unharmed, pictures};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use trial::{Process, ask};

struct Logd {
    directory: tempfile::TempDir,
    agent: Option<Process>,
    admin: SocketAddr,
    lines: SocketAddr,
}

impl Logd {
    fn start(more: &[&str]) -> Logd {
        let directory = tempfile::tempdir().unwrap();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut logd = Logd { directory, agent: None, admin: anywhere, lines: anywhere };
        logd.run(more);
        logd
    }

    /// Starts logd; a restart uses the same ports.
    fn run(&mut self, more: &[&str]) {
        let (admin, lines) = (self.admin.to_string(), self.lines.to_string());
        let mut arguments = vec!["--admin", &admin, "--listen", &lines];
        arguments.extend_from_slice(more);
        let agent = agent::start(self.directory.path(), "logd", &arguments);
        self.admin = agent.address("admin");
        self.lines = agent.address("lines");
        self.agent = Some(agent);
    }

    /// Sends lines and returns when they are in the file.
    fn send(&self, lines: impl AsRef<[u8]>) {
        let mut stream = TcpStream::connect(self.lines).unwrap();
        stream.write_all(lines.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the receipt");
    }

    fn page(&self) -> Browser {
        Browser::live_at(self.admin)
    }
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn lines_appear_by_themselves() {
    let logd = Logd::start(&["--show-lines"]);
    let browser = logd.page();
    logd.send("first\nsecond error\n");
    browser.until_text("#lines", "second error");
    browser.until_text("#peers", "127.0.0.1");
    browser.until("lines a second", |b| {
        logd.send("more\n");
        b.text(".plot .key").trim_start_matches("lines").trim().parse::<f64>().is_ok_and(|rate| rate > 0.0)
    });
    assert_ne!(browser.run("return document.querySelector('.plot path.s1').getAttribute('d')"), "");
    browser.type_into("#with", "error\u{E007}");
    browser.until("only what was asked for", |b| b.text("#lines").trim() == "second error");
    logd.send("fine\nanother error\n");
    browser.until_text("#lines", "another error");
    assert!(!browser.text("#lines").contains("fine"));
    browser.click("#pause");
    logd.send("an error in the pause\n");
    browser.click("#pause");
    browser.until_text("#lines", "an error in the pause");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn new_page_shows_the_past() {
    let logd = Logd::start(&[]);
    logd.send("line\n".repeat(1000));
    let browser = logd.page();
    // Nothing is sent any more: only remembered figures can be above the base line.
    let highest =
        "return Math.min(...document.querySelector('.plot path.s1').getAttribute('d').split(/[ML]/).slice(1)
        .map((point) => Number(point.split(' ')[1])))";
    browser.until("the lines that came before the page", |b| {
        b.run(highest).as_f64().is_some_and(|height| height < 90.0)
    });
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn lines_are_selected_by_expression_and_time() {
    let logd = Logd::start(&["--show-lines", "--format", "stamped"]);
    logd.send("first error\nsecond warning\n");
    let browser = logd.page();
    browser.until_text("#lines", "second warning");
    assert_eq!(browser.text("#lines .bad .peer").split(':').next(), Some("127.0.0.1"));
    assert!(browser.text("#lines .warn").ends_with("second warning"));
    browser.click("#regex");
    browser.type_into("#with", "f[i]rst\u{E007}");
    browser.until("the line that matches", |b| b.text("#lines").trim().ends_with("first error"));
    browser.type_into("#until", "1h\u{E007}");
    browser.until("no line of that time", |b| b.text("#lines").is_empty());
    assert_unharmed(&browser);
    browser.type_into("#with", "(\u{E007}");
    browser.until_text("#left-out", "no regular expression");
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn foreign_lines_are_only_shown() {
    let logd = Logd::start(&["--show-lines"]);
    let browser = logd.page();
    logd.send(format!("{HOSTILE}\n"));
    logd.send([vec![b'm'; 1 << 20], b"\n".to_vec(), b"\xff\xfe\x00bytes\n".to_vec()].concat());
    browser.until_text("#lines", "<script>window.broken=1</script>");
    browser.until_text("#lines", "␛[31m␀\\u{202e}end");
    browser.until_text("#lines", "(1048576 bytes)");
    browser.until_text("#lines", "␀bytes");
    assert!(browser.text("#lines").len() < 20_000);
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn lost_connection_is_shown_and_retried() {
    let mut logd = Logd::start(&["--show-lines"]);
    let browser = logd.page();
    logd.agent = None;
    browser.until_text("#state", "connection lost");
    logd.run(&["--show-lines"]);
    browser.until_text("#state", "live");
    logd.send("after\n");
    browser.until_text("#lines", "after");
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn lines_need_show_lines() {
    let logd = Logd::start(&[]);
    logd.send("secret\n");
    let browser = logd.page();
    browser.until_text("#lines-off", "--show-lines");
    assert!(!browser.text("body").contains("secret"));
    assert_eq!(ask(logd.admin, "GET", "/page/lines").status, 403);
    assert_unharmed(&browser);

    // A host name that resolves to this address is not enough: its owner's site could read along in a
    // visitor's browser.
    for path in ["/", "/page/figures", "/page/lines"] {
        let mut stream = TcpStream::connect(logd.admin).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: evil.example:{}\r\nConnection: close\r\n\r\n",
            logd.admin.port()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
    assert_eq!(ask(logd.admin, "GET", "/metrics").status, 200);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn page_fits_phones_and_both_schemes() {
    let logd = Logd::start(&["--show-lines", "--rotate-bytes", "2KiB"]);
    let browser = logd.page();
    let points = "return document.querySelector('.plot path.s1').getAttribute('d').split('L').length";
    let mut seen = 0;
    browser.until("a plot of some seconds", |b| {
        let now = b.run(points).as_u64().unwrap();
        for turn in std::mem::replace(&mut seen, now)..now {
            for n in 0..3 + turn % 5 {
                logd.send(format!(
                    "Sat Nov 21 16:16:{turn:02} - Greetings from client-{n}: all is well here\n"
                ));
            }
        }
        now > 9
    });
    browser.until_text("#rotated", "node_log.0000");
    pictures(&browser, "logd");
    assert_unharmed(&browser);
}
