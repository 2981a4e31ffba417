//! Tests of logcd's page.

use crate::agent;
use crate::webdriver::Browser;
use crate::{assert_unharmed, pictures};
use std::io::Write;
use std::net::SocketAddr;
use trial::{Process, ask};

/// A file name as hostile as possible.
const HOSTILE_NAME: &str = "<img src=x onerror='window.broken=1'>\u{1b}[31m\u{202e}.log";
/// The same name as logcd shows it: every byte is escaped that is not a plain character.
const SHOWN_NAME: &str = r"<img src=x onerror=\'window.broken=1\'>\x1b[31m\xe2\x80\xae.log";

struct Logcd {
    directory: tempfile::TempDir,
    agent: Option<Process>,
    admin: SocketAddr,
}

impl Logcd {
    fn start() -> Logcd {
        let admin = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut logcd = Logcd { directory: tempfile::tempdir().unwrap(), agent: None, admin };
        logcd.run();
        logcd
    }

    /// Starts logcd; a restart uses the same port.
    fn run(&mut self) {
        let admin = self.admin.to_string();
        let places = ["--dir", ".", "--admin", &admin, "--min-free", "1"];
        let quick = ["--interval", "100ms", "--publish-within", "100ms"];
        let agent = agent::start(self.directory.path(), "logcd", &[&places[..], &quick].concat());
        self.admin = agent.address("admin");
        self.agent = Some(agent);
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn page(&self) -> Browser {
        Browser::live_at(self.admin)
    }
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn archives_appear_by_themselves() {
    let logcd = Logcd::start();
    let browser = logcd.page();
    logcd.append("a.log", &"line\n".repeat(100));
    browser.until_text("#cycles", "published");
    browser.until_text("#cycles", "500 B");
    browser.until_text("#archives", "all-logs-");
    browser.click("#archives button");
    browser.until_text("#contents", "a.log");
    logcd.append("b.log", "more\n");
    browser.until_text("#contents", "b.log");
    std::fs::remove_file(logcd.directory.path().join("a.log")).unwrap();
    browser.until_text("#contents", "no longer in its file");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn skipped_logs_are_named_with_reasons() {
    let logcd = Logcd::start();
    let browser = logcd.page();
    std::os::unix::fs::symlink("/etc/passwd", logcd.directory.path().join("link.log")).unwrap();
    std::os::unix::fs::symlink("/", logcd.directory.path().join(HOSTILE_NAME.replace(".log", "2.log")))
        .unwrap();
    logcd.append(HOSTILE_NAME, "x\n");
    browser.until_text("#skipped-caption", "2: a symbolic link is never followed");
    browser.until_text("#skipped", "link.log");
    browser.until_text("#skipped", "<img src=x onerror=");
    browser.until_text("#archives", "all-logs-");
    browser.click("#archives button");
    browser.until_text("#contents", SHOWN_NAME);
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn lost_connection_is_shown_and_retried() {
    let mut logcd = Logcd::start();
    let browser = logcd.page();
    logcd.agent = None;
    browser.until_text("#state", "connection lost");
    logcd.append("after.log", "x\n");
    logcd.run();
    browser.until_text("#state", "live");
    browser.until_text("#archives", "all-logs-");
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn log_of_an_archive_is_downloaded_whole() {
    let logcd = Logcd::start();
    let browser = logcd.page();
    let text = "a line of a log\n".repeat(50_000);
    logcd.append("a.log", &text);
    browser.until_text("#archives", "all-logs-");
    browser.click("#archives button");
    browser.until_text("#contents a", "a.log");
    let href = browser.run("return document.querySelector('#contents a').getAttribute('href')");
    let answer = ask(logcd.admin, "GET", &format!("/{}", href.as_str().unwrap()));
    assert_eq!(answer.status, 200);
    assert!(answer.head.to_lowercase().contains("filename=\"a.log\""), "{}", answer.head);
    assert_eq!(answer.text(), text);
    for missing in ["archive=all-logs-2026-01-01.tar.gz&entry=0", "archive=../../etc/passwd&entry=0"] {
        assert_eq!(ask(logcd.admin, "GET", &format!("/page/log?{missing}")).status, 404, "{missing}");
    }
    browser.until_text("footer", "nodecrew 0.");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn only_archives_are_downloaded() {
    let logcd = Logcd::start();
    let path = logcd.directory.path();
    std::os::unix::fs::symlink("/etc/passwd", path.join(".all-logs-2026-01-01.tar.gz.index")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path.join("all-logs-2026-01-01.tar.gz")).unwrap();
    nix::unistd::mkfifo(&path.join(".all-logs-2026-01-02.tar.gz.index"), nix::sys::stat::Mode::S_IRWXU)
        .unwrap();
    for name in ["all-logs-2026-01-01.tar.gz", "all-logs-2026-01-02.tar.gz", "../../etc/passwd", "%2e%2e", ""]
    {
        let answer = ask(logcd.admin, "GET", &format!("/page/contents?archive={name}"));
        assert_eq!(answer.status, 404, "{name}: {answer:?}");
        assert!(!answer.head.contains("root") && !answer.text().contains("root"), "{answer:?}");
    }
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn page_fits_phones_and_both_schemes() {
    let logcd = Logcd::start();
    let browser = logcd.page();
    std::os::unix::fs::symlink("/etc/passwd", logcd.directory.path().join("secret.log")).unwrap();
    for (n, name) in ["kubelet.log", "node.log", "containerd.log", "api.log"].iter().enumerate() {
        logcd.append(name, &format!("Sat Nov 21 16:16:{n:02} - all is well here\n").repeat(1000 * (n + 1)));
        browser.until("its cycle", |b| {
            let rows = b.run("return document.querySelectorAll('#cycles tr').length").as_u64().unwrap();
            rows > n as u64
        });
    }
    browser.until_text("#archives", "all-logs-");
    browser.click("#archives button");
    browser.until_text("#contents", "api.log");
    pictures(&browser, "logcd");
    assert_unharmed(&browser);
}
