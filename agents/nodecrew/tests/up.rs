//! `nodecrew up` as a newcomer meets it: the crew starts, takes a line, archives it, and stops.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const NODECREW: &str = env!("CARGO_BIN_EXE_nodecrew");

/// Kills the crew that a failed test would leave running.
struct Crew(Child);

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a loopback address of this test only, so that the well-known ports are free on it.
fn own_address() -> Ipv4Addr {
    let [_, high, low, _] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + high % 100, low, 1 + std::process::id().to_be_bytes()[3] % 250)
}

fn up(data: &Path, address: Ipv4Addr) -> (Crew, Vec<String>) {
    up_with(data, address, &[])
}

fn up_with(data: &Path, address: impl Into<std::net::IpAddr>, more: &[&str]) -> (Crew, Vec<String>) {
    let mut child = Command::new(NODECREW)
        .args(["up", "--interval", "100ms", "--address", &address.into().to_string()])
        .args(more)
        .arg("--data")
        .arg(data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let crew = Crew(child);
    let mut lines = Vec::new();
    for line in stdout.lines() {
        let line = line.unwrap();
        let last = line.starts_with("Ctrl-C");
        lines.push(line);
        if last {
            break;
        }
    }
    (crew, lines)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + trial::DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn receipted_line_is_soon_archived() {
    let data = tempfile::tempdir().unwrap();
    let address = own_address();
    let (mut crew, lines) = up(data.path(), address);
    assert_eq!(lines.len(), 9, "one line an endpoint and a goodbye: {lines:#?}");
    let pages: Vec<&str> =
        lines.iter().filter_map(|line| line.split_once("http://")?.1.strip_suffix('/')).collect();
    assert_eq!(pages.len(), 3, "{lines:#?}");
    for (agent, page) in ["logd", "logcd", "queued"].iter().zip(pages) {
        let answer = trial::ask(page.parse().unwrap(), "GET", "/").expect(200);
        assert!(answer.text().contains(&format!("<h1>{agent}</h1>")), "{answer:?}");
    }

    let mut sender = TcpStream::connect((address, 6666)).unwrap();
    sender.write_all(b"hello from a newcomer\n").unwrap();
    sender.shutdown(Shutdown::Write).unwrap();
    assert_eq!(sender.read(&mut [0]).unwrap(), 0, "the receipt");
    let file = data.path().join("logs/node.log");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello from a newcomer\n");

    let archive = until("the archive", || {
        let entries = std::fs::read_dir(data.path().join("logs")).unwrap();
        entries.map(|e| e.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "gz"))
    });
    until("the line in the archive", || {
        let cat =
            Command::new(NODECREW).args(["logcd", "cat"]).arg(&archive).arg("node.log").output().unwrap();
        (cat.status.success() && cat.stdout == b"hello from a newcomer\n").then_some(())
    });

    Command::new("kill").args(["-INT", &crew.0.id().to_string()]).status().unwrap();
    assert_eq!(crew.0.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello from a newcomer\n", "the data stays");
}

#[test]
fn taken_port_ends_the_whole_crew() {
    let data = tempfile::tempdir().unwrap();
    let [a, b, c, d] = own_address().octets();
    let address = Ipv4Addr::new(a, b, c, d.wrapping_add(1).max(1));
    let _taken = std::net::TcpListener::bind((address, 6666)).unwrap();
    let output = Command::new(NODECREW)
        .args(["up", "--address", &address.to_string(), "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.lines().count() == 1 && error.contains(&format!("cannot listen on {address}:6666")),
        "{error}"
    );
    assert!(
        error.contains("--lines-port PORT chooses another port, --any-port the next free one"),
        "{error}"
    );
}

#[test]
fn taken_ports_can_be_moved() {
    let data = tempfile::tempdir().unwrap();
    let [a, b, c, d] = own_address().octets();
    let address = Ipv4Addr::new(a, b, c.wrapping_add(1), d);
    let _taken = [6666, 8080, 8081].map(|port| std::net::TcpListener::bind((address, port)).unwrap());
    let more = ["--any-port", "--line-port", "1081"];
    let (mut crew, lines) = up_with(data.path(), address, &more);
    let said = lines.join("\n");
    for endpoint in ["accepts lines on", "and hands out items on", "hands out single items on", "logd   page"]
        .iter()
        .zip([6667, 8082, 1081, 7667])
        .map(|(what, port)| (what, format!("{address}:{port}")))
    {
        let line = said.lines().find(|line| line.contains(endpoint.0)).unwrap();
        assert!(line.contains(&endpoint.1), "{endpoint:?}: {said}");
        assert!(TcpStream::connect(&endpoint.1).is_ok(), "{endpoint:?}");
    }
    Command::new("kill").args(["-INT", &crew.0.id().to_string()]).status().unwrap();
    assert_eq!(crew.0.wait().unwrap().code(), Some(0));
}

#[test]
fn printed_addresses_can_be_opened() {
    let data = tempfile::tempdir().unwrap();
    let all: std::net::IpAddr = std::net::Ipv6Addr::UNSPECIFIED.into();
    // Not the default ports, which other tests use on addresses of their own.
    let reserved = [(); 5].map(|()| trial::Port::reserve_on_all_addresses());
    let ports = reserved.each_ref().map(|port| port.address.port().to_string());
    let flags = ["--lines-port", "--logd-admin-port", "--logcd-admin-port", "--http-port", "--line-port"];
    let more: Vec<&str> = flags.into_iter().zip(&ports).flat_map(|(flag, port)| [flag, port]).collect();
    let (mut crew, lines) = up_with(data.path(), all, &more);
    let said = lines.join("\n");
    assert!(!said.contains("[::]") && said.contains("--page-token FILE opens them to others"), "{said}");
    let pages: Vec<&str> =
        lines.iter().filter_map(|line| line.split_once("http://")?.1.strip_suffix('/')).collect();
    assert_eq!(pages.len(), 3, "{said}");
    for page in pages {
        trial::ask(page.parse().unwrap(), "GET", "/").expect(200);
    }
    Command::new("kill").args(["-INT", &crew.0.id().to_string()]).status().unwrap();
    assert_eq!(crew.0.wait().unwrap().code(), Some(0));
}

#[test]
fn printed_pages_need_the_token() {
    let data = tempfile::tempdir().unwrap();
    let token = data.path().join("token");
    std::fs::write(&token, "0123456789abcdef-token\n").unwrap();
    let [a, b, c, d] = own_address().octets();
    let address = Ipv4Addr::new(a, b, c.wrapping_add(2), d);
    let (mut crew, lines) = up_with(data.path(), address, &["--page-token", token.to_str().unwrap()]);
    let said = lines.join("\n");
    let with_token =
        lines.iter().filter_map(|line| line.split_once("http://")?.1.strip_suffix("/?token=TOKEN"));
    let with_token: Vec<&str> = with_token.collect();
    assert_eq!(with_token.len(), 2, "{said}");
    for page in with_token {
        let page = page.parse().unwrap();
        trial::ask(page, "GET", "/").expect(401);
        trial::ask(page, "GET", "/?token=0123456789abcdef-token").expect(303);
    }
    Command::new("kill").args(["-INT", &crew.0.id().to_string()]).status().unwrap();
    assert_eq!(crew.0.wait().unwrap().code(), Some(0));
}

/// The exit code, stdout and stderr of a run with these words.
fn says(words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(NODECREW).args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn mistyped_command_is_suggested() {
    for (typed, meant) in [("upp", "up"), ("lgod", "logd"), ("queue", "queued"), ("complete", "completion")] {
        let (code, stdout, stderr) = says(&[typed]);
        assert_eq!((code, stdout.as_str()), (Some(64), ""));
        assert!(
            stderr.lines().count() == 1 && stderr.contains(&format!("did you mean `{meant}`?")),
            "{stderr}"
        );
    }
    let (code, _, stderr) = says(&["xyzzy"]);
    assert!(code == Some(64) && stderr.contains("try `up`, or an agent: logd, logsend, "), "{stderr}");
}

#[test]
fn help_is_shown_without_a_command() {
    let (code, stdout, stderr) = says(&[]);
    assert_eq!((code, stdout.as_str()), (Some(64), ""));
    for part in ["Usage: nodecrew <COMMAND>", "\n  up ", "\n  logd ", "\n  queuectl "] {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
    let (code, help, _) = says(&["help", "queuectl", "run"]);
    assert!(code == Some(0) && help.contains("Usage: queuectl run"), "{help}");
    assert_eq!(says(&["help", "logd"]).1, says(&["logd", "--help"]).1);
    assert_eq!(says(&["help", "up"]).1, says(&["up", "--help"]).1);
}

#[test]
fn completions_know_the_agents() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = says(&["completion", shell]);
        assert_eq!(code, Some(0));
        for word in ["queuectl", "rotate-bytes", "http-port"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn agent_is_a_subcommand_and_a_link() {
    let version = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let links = tempfile::tempdir().unwrap();
    for agent in ["logd", "logsend", "logcd", "queued", "queuectl", "kvd", "kvctl", "keygen", "rng"] {
        let link = links.path().join(agent);
        std::os::unix::fs::symlink(NODECREW, &link).unwrap();
        let line = version(&link, &["--version"]);
        assert!(line.starts_with(&format!("{agent} ")), "{line}");
        assert_eq!(version(Path::new(NODECREW), &[agent, "--version"]), line);
    }
    let unknown = Command::new(NODECREW).arg("logq").output().unwrap();
    assert_eq!(unknown.status.code(), Some(64));
}
