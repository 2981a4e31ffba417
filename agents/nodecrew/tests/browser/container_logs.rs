//! Tests of the part of logcd's page that shows container logs.

use crate::agent;
use crate::webdriver::Browser;
use crate::{HOSTILE, assert_unharmed, pictures};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use trial::{Process, ask};

const CONTAINER: &str = "shop_web-1_00000000-0001/app";

/// A logcd that archives container logs only.
struct Logcd {
    directory: tempfile::TempDir,
    agent: Process,
    admin: SocketAddr,
}

impl Logcd {
    fn start(flags: &[&str]) -> Logcd {
        Logcd::start_in(tempfile::tempdir().unwrap(), flags)
    }

    fn start_in(directory: tempfile::TempDir, flags: &[&str]) -> Logcd {
        std::fs::create_dir_all(directory.path().join("pods")).unwrap();
        let places = ["--dir=none", "--pods=pods", "--pods-out=out", "--admin=127.0.0.1:0"];
        let agent = agent::start(
            directory.path(),
            "logcd",
            &[&places[..], &["--publish-within=20ms", "--min-free=1"], flags].concat(),
        );
        let admin = agent.address("admin");
        Logcd { directory, agent, admin }
    }

    fn container(&self, name: &str) -> PathBuf {
        self.directory.path().join("pods").join(name)
    }

    /// Writes a line as the container runtime does.
    fn append(&self, container: &str, line: &str) {
        let directory = self.container(container);
        std::fs::create_dir_all(&directory).unwrap();
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(directory.join("0.log")).unwrap();
        file.write_all(format!("2026-11-28T10:00:00Z stdout F {line}\n").as_bytes()).unwrap();
    }

    fn page(&self) -> Browser {
        Browser::live_at(self.admin)
    }
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn newest_lines_of_a_container_appear_by_themselves() {
    let logcd = Logcd::start(&["--show-lines"]);
    let browser = logcd.page();
    assert_eq!(browser.run("return document.querySelector('#directories-part').hidden"), true);
    logcd.append(CONTAINER, "first");
    logcd.append("kube-system_dns_00000000-0002/dns", "other");
    browser.until_text("#namespaces", "shop");
    browser.until_text("#namespaces", "kube-system");
    // The hour of its oldest archive, such as 2026-11-28T14.
    browser.until_text("#namespaces", "T");
    browser.click("#namespaces tr[data-key=shop] button");
    browser.until_text("#containers", "web-1");
    assert!(!browser.text("#containers").contains("dns"));
    browser.click("#containers button");
    browser.until_text("#lines", "first");
    logcd.append(CONTAINER, HOSTILE.replace('\0', "").as_str());
    browser.until_text("#lines", "<script>window.broken=1</script>");
    // The log after a restart of the container.
    std::fs::write(logcd.container(CONTAINER).join("1.log"), "2026-11-28T10:00:01Z stderr F again\n")
        .unwrap();
    browser.until_text("#lines", "again");
    assert!(!browser.text("#lines").contains("first"));
    browser.until_text("#losses-caption", "None since");
    pictures(&browser, "logcd-pods");
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn lines_of_containers_need_show_lines() {
    let logcd = Logcd::start(&[]);
    logcd.append(CONTAINER, "secret");
    let browser = logcd.page();
    browser.until_text("#namespaces", "shop");
    browser.click("#namespaces button");
    browser.until_text("#containers", "web-1");
    browser.until_text("#lines-off", "--show-lines");
    assert_eq!(browser.run("return document.querySelectorAll('#containers button').length"), 0);
    assert!(!browser.text("body").contains("secret"));
    let path = format!("/page/container-lines?container={CONTAINER}");
    assert_eq!(ask(logcd.admin, "GET", &path).status, 403);
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn only_lines_of_containers_are_shown() {
    let logcd = Logcd::start(&["--show-lines"]);
    let directory = logcd.container("shop_web-1_1/app");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(logcd.directory.path().join("0.log"), "secret\n").unwrap();
    std::os::unix::fs::symlink(logcd.directory.path().join("0.log"), directory.join("0.log")).unwrap();
    for container in ["..", "../..", "shop_web-1_1/..", "/etc", "shop_web-1_1", ""] {
        let answer = ask(logcd.admin, "GET", &format!("/page/container-lines?container={container}"));
        assert_eq!(answer.status, 404, "{container}: {answer:?}");
    }
    let browser = logcd.page();
    logcd.append(CONTAINER, "a line");
    browser.until_text("#namespaces", "shop");
    browser.click("#namespaces button");
    // First the link, of which nothing is shown, then the log.
    browser.until_text("#containers", "app");
    browser.click("#containers tr:nth-child(2) button");
    browser.until_text("#lines-title", "shop_web-1_1/app");
    browser.click("#containers tr:nth-child(1) button");
    browser.until_text("#lines", "a line");
    assert!(!browser.text("body").contains("secret"));
    assert_unharmed(&browser);
}

#[test]
#[ignore = "needs Chromium and its driver: just test-programs"]
fn container_that_went_meanwhile_is_named() {
    let logcd = Logcd::start(&[]);
    logcd.append(CONTAINER, "first");
    let out = logcd.directory.path().join("out/shop");
    trial::wait_until("its archive", || {
        std::fs::read_dir(&out).is_ok_and(|mut names| names.next().is_some())
    });
    assert!(logcd.agent.terminate().success());
    std::fs::remove_dir_all(logcd.container("shop_web-1_00000000-0001")).unwrap();
    let Logcd { directory, .. } = logcd;
    let logcd = Logcd::start_in(directory, &[]);
    let browser = logcd.page();
    browser.until_text("#losses", CONTAINER);
    browser.until_text("#pods-totals", "Lost logs");
    assert_unharmed(&browser);
}
