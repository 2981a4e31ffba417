//! Opens the agents' pages at their default ports.

use crate::agent;
use crate::webdriver::Browser;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;
use std::net::SocketAddr;
use std::process::Command;
use trial::Process;

/// Makes every port free: root gets a network namespace for this thread and the processes it starts. Other
/// users need the host's ports to be free.
fn take_the_ports() {
    if Uid::effective().is_root() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
#[ignore = "needs Chromium and its driver, and the default ports free or root: just test-programs"]
fn default_ports_open_in_a_browser() {
    take_the_ports();
    let directory = tempfile::tempdir().unwrap();
    for (name, arguments, listens, port) in [
        ("logd", &[][..], "admin", 7667),
        ("logcd", &["--dir", ".", "--min-free", "1"], "admin", 7668),
        ("queued", &[], "http", 8080),
    ] {
        let agent = agent::start(directory.path(), name, arguments);
        assert_eq!(agent.address(listens).port(), port, "{name}");
        let browser = Browser::live_at(at(port));
        browser.until_text("h1", name);
        assert_eq!(agent.events(WARNING), Vec::<serde_json::Value>::new());
        assert!(agent.terminate().success());
    }
}

const WARNING: &str = "port_blocked_by_browsers";

#[test]
#[ignore = "needs Chromium and its driver, and port 6667 free or root: just test-programs"]
fn blocked_port_is_reported() {
    take_the_ports();
    let directory = tempfile::tempdir().unwrap();
    let blocked = at(6667).to_string();
    for (name, arguments, flag) in [
        ("logd", &["--admin", &blocked, "--listen", "127.0.0.1:0"][..], "--admin"),
        ("queued", &["--http", &blocked, "--line", "none"], "--http"),
    ] {
        let agent: Process = agent::start(directory.path(), name, arguments);
        let warnings = agent.events(WARNING);
        assert!(warnings.len() == 1 && warnings[0]["flag"] == flag, "{name}: {warnings:?}");
        assert_eq!(trial::ask(at(6667), "GET", "/ready").status, 200);
        let browser = Browser::open();
        browser.go(&format!("http://{blocked}/"));
        browser.until_text("body", "ERR_UNSAFE_PORT");
        assert!(agent.terminate().success());
    }
}
