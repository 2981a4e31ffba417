//! `nodecrew logs` with real readers: on this host, and on others behind a program that stands for ssh.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const NODECREW: &str = env!("CARGO_BIN_EXE_nodecrew");

/// Directories of hosts, and a program named ssh that runs each command in the directory of its host. It has the
/// other side of the real ssh: one text for a shell.
struct Hosts(tempfile::TempDir);

impl Hosts {
    fn new(names: &[&str]) -> Hosts {
        let hosts = Hosts(tempfile::tempdir().unwrap());
        let programs = hosts.0.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        for agent in ["logcd", "logd"] {
            std::os::unix::fs::symlink(NODECREW, programs.join(agent)).unwrap();
        }
        let ssh = programs.join("ssh");
        let script = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n\
            cd \"$HOSTS/$2\" 2>/dev/null || { echo \"ssh: no host $2\" >&2; exit 255; }\n\
            echo $$ >reader\nexec sh -c \"exec $3\"\n";
        std::fs::write(&ssh, script).unwrap();
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in names {
            std::fs::create_dir_all(hosts.path(name).join("pods")).unwrap();
            std::fs::create_dir(hosts.path(name).join("out")).unwrap();
        }
        hosts
    }

    fn path(&self, host: &str) -> PathBuf {
        self.0.path().join(host)
    }

    /// Writes lines of a container, each with a second of a minute and a text.
    fn write(&self, host: &str, pod: &str, lines: &[(u32, &str)]) {
        let directory = self.path(host).join("pods").join(pod);
        std::fs::create_dir_all(&directory).unwrap();
        let mut text = String::new();
        for (second, line) in lines {
            writeln!(text, "2026-11-28T14:05:{second:02}.000000001Z stdout F {line}").unwrap();
        }
        let mut log = File::options().create(true).append(true).open(directory.join("0.log")).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// Archives what the containers of a host have written.
    fn archive(&self, host: &str) {
        let archived = Command::new(NODECREW)
            .args(["logcd", "--once", "--dir", "none", "--pods", "pods", "--pods-out", "out"])
            .current_dir(self.path(host))
            .output()
            .unwrap();
        assert!(archived.status.success(), "{archived:?}");
    }

    fn logs(&self, flags: &[&str]) -> Output {
        self.command(flags).output().unwrap()
    }

    fn command(&self, flags: &[&str]) -> Command {
        let programs = self.0.path().join("programs");
        let path = std::env::join_paths(
            std::iter::once(programs).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut command = Command::new(NODECREW);
        command.args(["logs", "--pods", "pods", "--pods-out", "out"]).args(flags);
        command.env("PATH", path.unwrap()).env("HOSTS", self.0.path());
        command
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// Two hosts whose pods write in turn: archived lines, and lines that are only in live logs.
fn two_hosts() -> Hosts {
    let hosts = Hosts::new(&["web1", "web2"]);
    hosts.write("web1", "shop_cart-1_0a/app", &[(1, "one"), (3, "three")]);
    hosts.write("web2", "shop_cart-2_0b/app", &[(2, "two"), (4, "four")]);
    hosts.write("web2", "kube-system_dns_0c/dns", &[(3, "a name")]);
    hosts.archive("web1");
    hosts.archive("web2");
    hosts.write("web1", "shop_cart-1_0a/app", &[(5, "five")]);
    hosts.write("web2", "shop_cart-2_0b/app", &[(6, "six")]);
    hosts
}

#[test]
fn lines_of_all_hosts_are_ordered_by_time() {
    let hosts = two_hosts();
    // The pod is gone; its lines are in the archive.
    std::fs::remove_dir_all(hosts.path("web2").join("pods/kube-system_dns_0c")).unwrap();
    let printed = hosts.logs(&["--ssh", "web1,web2"]);
    assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""));
    let expected = "shop cart-1 app one\nshop cart-2 app two\nshop cart-1 app three\n\
        kube-system dns dns a name\nshop cart-2 app four\nshop cart-1 app five\nshop cart-2 app six\n";
    assert_eq!(text(&printed.stdout), expected);
}

#[test]
fn lines_are_selected_on_their_hosts() {
    let hosts = two_hosts();
    let printed = |flags: &[&str]| {
        let output = hosts.logs(&[&["--ssh", "web1,web2", "--output", "raw"], flags].concat());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        text(&output.stdout).to_owned()
    };
    assert_eq!(printed(&["-n", "kube-system"]), "a name\n");
    assert_eq!(printed(&["--pod", "^cart-[2-9]$"]), "two\nfour\nsix\n");
    assert_eq!(printed(&["--grep", "^f|it's a \"$HOME\""]), "four\nfive\n");
    assert_eq!(printed(&["--container", "dns"]), "a name\n");
    let times = ["--since", "2026-11-28T14:05:03Z", "--until", "2026-11-28T14:05:05Z", "-n", "shop"];
    assert_eq!(printed(&times), "three\nfour\n");
    assert_eq!(printed(&["--node", "web1"]), "one\nthree\nfive\n");
}

#[test]
fn unreachable_host_is_named() {
    let hosts = two_hosts();
    let since = ["--since", "2026-11-28T14:05:05Z"];
    let printed = hosts.logs(&[&["--ssh", "web1,nosuch,web2", "-o", "raw"][..], &since].concat());
    assert_eq!(printed.status.code(), Some(75));
    assert_eq!(text(&printed.stdout), "five\nsix\n", "the other hosts' lines are printed");
    let expected = "nodecrew: nosuch: lines from 2026-11-28T14:05:05Z to now are missing: ssh: no host nosuch\n\
        nodecrew: incomplete: 1 of 3 sources could not be read to the end\n";
    assert_eq!(text(&printed.stderr), expected);
}

#[test]
fn unreadable_archive_is_named() {
    let hosts = two_hosts();
    let archive = archive_of(&hosts.path("web2").join("out/shop"));
    let bytes = std::fs::read(&archive).unwrap();
    let header = bytes.windows(4).rposition(|bytes| bytes == [0x1f, 0x8b, 8, 4]).unwrap();
    let first = bytes.windows(4).position(|bytes| bytes == [0x1f, 0x8b, 8, 4]).unwrap();
    // The header of the first member, its compressed lines, and the time in an entry's header.
    for at in [first, first + 40, usize::midpoint(first, header)] {
        let mut damaged = bytes.clone();
        damaged[at] = !damaged[at];
        std::fs::write(&archive, damaged).unwrap();
        let printed = hosts.logs(&["--ssh", "web1,web2", "-n", "shop", "-o", "raw"]);
        let said = text(&printed.stderr);
        assert_eq!(printed.status.code(), Some(75), "byte {at}: {said}");
        assert!(text(&printed.stdout).starts_with("one\nthree\n"), "byte {at}: {printed:?}");
        let is_named = said.contains("web2: lines from the beginning to now are missing");
        assert!(is_named && said.contains(".tar.gz"), "byte {at}: {said}");
    }
}

fn archive_of(namespace: &Path) -> PathBuf {
    let mut archives = std::fs::read_dir(namespace).unwrap().map(|entry| entry.unwrap().path());
    archives.find(|path| path.to_string_lossy().contains(".tar.")).unwrap()
}

#[test]
fn silent_host_is_given_up() {
    let hosts = two_hosts();
    let ssh = hosts.path("programs").join("ssh");
    let script = std::fs::read_to_string(&ssh).unwrap();
    std::fs::write(&ssh, script.replace("cd ", "[ \"$2\" != web2 ] || exec sleep 1000\ncd ")).unwrap();
    let printed = hosts.logs(&["--ssh", "web2", "--answer-within", "1ms"]);
    assert_eq!((printed.status.code(), text(&printed.stdout)), (Some(75), ""));
    assert!(
        text(&printed.stderr)
            .contains("web2: lines from the beginning to now are missing: it does not answer")
    );
}

#[test]
fn lines_of_this_host_need_no_transport() {
    let hosts = two_hosts();
    let printed = Command::new(NODECREW)
        .args(["logs", "--local", "--stats", "--pods", "pods", "--pods-out", "out"])
        .current_dir(hosts.path("web2"))
        .output()
        .unwrap();
    assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""));
    let expected = "NAMESPACE    POD     LINES  BYTES\nkube-system  dns         1      7\nshop         cart-2      3     13\n";
    assert_eq!(text(&printed.stdout), expected);
}

#[test]
fn lines_that_logd_received_are_merged() {
    let hosts = two_hosts();
    for (host, seconds) in [("web1", [1, 3]), ("web2", [2, 4])] {
        let line = |second| format!("2026-11-28T14:05:0{second}.000000Z 10.0.0.1:5 line {second}\n");
        std::fs::write(hosts.path(host).join("node_log"), seconds.map(line).concat()).unwrap();
    }
    let printed = hosts.logs(&["--ssh", "web1,web2", "--source", "logd"]);
    assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""));
    let start: Vec<&str> =
        text(&printed.stdout).lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(start, ["web1", "web2", "web1", "web2"]);
    assert!(text(&printed.stdout).starts_with("web1 2026-11-28T14:05:01.000000Z 10.0.0.1:5 line 1\n"));
}

/// A `nodecrew logs --follow` that runs. It is killed when the test ends.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(hosts: &Hosts, flags: &[&str]) -> Follower {
        let flags = [&["--ssh", "web1,web2", "-o", "raw", "--follow"], flags].concat();
        let mut child = hosts.command(&flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follower { child, lines }
    }

    fn next(&mut self, count: usize) -> Vec<String> {
        self.lines.by_ref().take(count).map(|line| line.unwrap()).collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn new_lines_are_followed_through_rotations_and_new_pods() {
    let hosts = two_hosts();
    let mut follower = Follower::start(&hosts, &["-n", "shop"]);
    assert_eq!(follower.next(6), ["one", "two", "three", "four", "five", "six"]);
    for round in 0..20 {
        let (first, second, third) = (format!("a{round}"), format!("b{round}"), format!("c{round}"));
        hosts.write("web1", "shop_cart-1_0a/app", &[(10, &first)]);
        // As kubelet rotates: the old log gets another name, and its lines are followed to the end.
        let directory = hosts.path("web1").join("pods/shop_cart-1_0a/app");
        let rotated = directory.join(format!("0.log.20261128-1406{round:02}"));
        std::fs::rename(directory.join("0.log"), &rotated).unwrap();
        hosts.write("web1", "shop_cart-1_0a/app", &[(11, &second)]);
        hosts.write("web2", &format!("shop_new-{round}_0d/app"), &[(12, &third)]);
        let mut lines = follower.next(3);
        // The time of a line that comes late is not the order of its arrival.
        lines.sort();
        assert_eq!(lines, [first, second, third]);
    }
    // Every line was printed once: the next one is the last one.
    hosts.write("web2", "shop_cart-2_0b/app", &[(59, "end")]);
    assert_eq!(follower.next(1), ["end"]);
}

#[test]
fn no_line_is_lost_or_repeated_between_old_and_new_ones() {
    const LINES: usize = 3000;
    let hosts = Hosts::new(&["web1", "web2"]);
    hosts.write("web1", "shop_cart-1_0a/app", &[(0, "0")]);
    hosts.archive("web1");
    let mut follower = std::thread::scope(|scope| {
        scope.spawn(|| {
            let directory = hosts.path("web1").join("pods/shop_cart-1_0a/app");
            for number in 1..LINES {
                hosts.write("web1", "shop_cart-1_0a/app", &[(0, &number.to_string())]);
                if number % 100 == 0 {
                    let rotated = directory.join(format!("0.log.20261128-14{number:04}"));
                    std::fs::rename(directory.join("0.log"), rotated).unwrap();
                }
                if number == LINES / 2 {
                    hosts.archive("web1");
                }
            }
        });
        Follower::start(&hosts, &[])
    });
    let expected: Vec<String> = (0..LINES).map(|number| number.to_string()).collect();
    assert_eq!(follower.next(LINES), expected);
    hosts.write("web1", "shop_cart-1_0a/app", &[(0, "end")]);
    assert_eq!(follower.next(1), ["end"]);
}

#[test]
fn host_that_ends_while_it_is_followed_is_named() {
    let hosts = two_hosts();
    let mut follower = Follower::start(&hosts, &["--since", "2026-11-28T14:05:05Z"]);
    assert_eq!(follower.next(2), ["five", "six"]);
    let reader = std::fs::read_to_string(hosts.path("web2").join("reader")).unwrap();
    assert!(Command::new("kill").arg(reader.trim()).status().unwrap().success());
    let stderr = BufReader::new(follower.child.stderr.take().unwrap());
    let said = stderr.lines().next().unwrap().unwrap();
    assert!(
        said.starts_with("nodecrew: web2: lines from 20") && said.contains(" to the end are missing"),
        "{said}"
    );
    hosts.write("web1", "shop_cart-1_0a/app", &[(20, "goes on")]);
    assert_eq!(follower.next(1), ["goes on"]);
}

#[test]
fn abandoned_reader_ends() {
    let hosts = two_hosts();
    let mut reader = Command::new(NODECREW)
        .args(["logcd", "read", "--follow", "--output", "records", "--pods", "pods", "--pods-out", "out"])
        .current_dir(hosts.path("web1"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The connection breaks: its stdin ends, and its stdout stays open although nobody reads it.
    drop(reader.stdin.take());
    assert_eq!(reader.wait().unwrap().code(), Some(75));
}
