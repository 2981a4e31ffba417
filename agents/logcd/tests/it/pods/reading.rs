//! Archives are read by `logcd read`, GNU tar, bsdtar, Python and Go.

use super::{Node, QUICK};
use crate::support::kubelet::{Seen, archives, lines_of_all, numbers};
use crate::support::run;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use trial::wait_until;

pub(super) fn read(node: &Node, flags: &[&str]) -> String {
    read_with(node, &node.pods(), flags)
}

pub(super) fn read_with(node: &Node, pods: &Path, flags: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
    command.arg("read").arg("--pods-out").arg(node.out()).arg("--pods").arg(pods).args(flags);
    String::from_utf8(run(&mut command)).unwrap()
}

#[test]
fn lines_are_read_in_the_order_of_time_archived_or_not() {
    let (node, mut kubelet) = Node::with_kubelet();
    let (web, dns) = (kubelet.pod("shop", "web-1"), kubelet.pod("kube-system", "dns"));
    kubelet.write_text(web, "2026-11-28T10:00:01Z stdout F one\n2026-11-28T10:00:03Z stdout P thr\n");
    kubelet.write_text(dns, "2026-11-28T10:00:02Z stderr F two\n");
    let daemon = node.start(QUICK);
    wait_until("the first lines", || lines_of_all(&node.out()).len() == 3);
    daemon.stop();
    kubelet.write_text(web, "2026-11-28T10:00:03.5Z stdout F ee\n2026-11-28T10:00:05Z stdout F five\n2026-11-28T10:00:06Z stdout F torn");
    kubelet.write_text(dns, "2026-11-28T10:00:04Z stdout F four\n");
    assert_eq!(read(&node, &[]), "one\ntwo\nthree\nfour\nfive\n");
    assert_eq!(read(&node, &["--namespace=shop"]), "one\nthree\nfive\n");
    assert_eq!(read(&node, &["--pod=^dn"]), "two\nfour\n");
    assert_eq!(read(&node, &["--container=other"]), "");
    assert_eq!(
        read(&node, &["--grep=e$", "--since=2026-11-28T10:00:02Z", "--until=2026-11-28T10:00:04Z"]),
        "three\n"
    );
    assert_eq!(
        read(&node, &["-o", "raw", "--grep=o"]),
        "2026-11-28T10:00:01Z stdout F one\n2026-11-28T10:00:02Z stderr F two\n2026-11-28T10:00:04Z stdout F four\n"
    );
    let json = read(&node, &["-o", "json", "--grep=two"]);
    let line: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(line["time"], "2026-11-28T10:00:02Z");
    let fields =
        ["namespace", "pod", "container", "stream", "line"].map(|field| line[field].as_str().unwrap());
    assert_eq!(fields, ["kube-system", "dns", "app", "stderr", "two"]);
    // Without the live logs, what is archived.
    assert_eq!(read_with(&node, Path::new("none"), &[]), "one\ntwo\nthr\n");
    // A copy of the archives alone.
    std::fs::remove_file(node.out().join(".logcd-pods.checkpoint")).unwrap();
    assert_eq!(read_with(&node, Path::new("none"), &[]), "one\ntwo\nthr\n");
}

/// As containerd writes where a log is rotated: the end of a line has an earlier time than its beginning.
#[test]
fn lines_stay_in_order_where_times_go_back() {
    let (node, mut kubelet) = Node::with_kubelet();
    let (web, dns) = (kubelet.pod("shop", "web-1"), kubelet.pod("shop", "dns"));
    kubelet.write_text(web, "2026-11-28T10:00:01Z stdout F one\n2026-11-28T10:00:05.2Z stdout P tw");
    kubelet.write_text(web, "\n");
    kubelet.write_text(dns, "2026-11-28T10:00:05.1Z stdout F between\n");
    let daemon = node.start(QUICK);
    wait_until("the first lines", || lines_of_all(&node.out()).len() == 3);
    // The first line of a new member is earlier than the last one of the member before.
    kubelet.write_text(web, "2026-11-28T10:00:05.0Z stdout F o\n2026-11-28T10:00:06Z stdout P thr\n");
    wait_until("the next lines", || lines_of_all(&node.out()).len() == 5);
    daemon.stop();
    kubelet.write_text(web, "2026-11-28T10:00:05.9Z stdout F ee\n");
    assert_eq!(read(&node, &["--pod=web"]), "one\ntwo\nthree\n");
    assert_eq!(read(&node, &[]), "one\nbetween\ntwo\nthree\n");
    // Each line keeps its own time.
    let json = read(&node, &["-o", "json", "--grep=three"]);
    assert!(json.contains("2026-11-28T10:00:06Z"), "{json}");
}

#[test]
fn reader_beside_the_daemon_sees_each_line_once() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    let daemon = node.start(QUICK);
    let mut rng = Rng::with_seed(3);
    for _ in 0..20 {
        kubelet.write(pod, 1 + rng.u64(..50));
        if rng.u64(..3) == 0 {
            wait_until("it is open", || kubelet.is_open_in(&daemon, pod));
            kubelet.rotate(pod);
        }
        let expected = kubelet.written().len();
        // A log that is being compressed may be only in the daemon's hands for a moment.
        wait_until("every line", || read(&node, &[]).lines().count() >= expected);
        let lines = read(&node, &[]);
        assert_eq!(lines.lines().count(), expected);
        let sorted = lines.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        assert!(sorted.is_sorted());
    }
}

/// GNU tar, bsdtar, Python and `gzip -t` accept all archives, and list the same.
pub(super) fn readers_agree(out: &Path) {
    for archive in archives(out) {
        let listed = run(Command::new("tar").arg("-tzf").arg(&archive));
        run(Command::new("gzip").arg("-t").arg(&archive));
        let verified = run(Command::new(env!("CARGO_BIN_EXE_logcd")).arg("list").arg(&archive));
        assert_eq!(numbers(&listed), numbers(&verified), "{}", archive.display());
        run(Command::new(env!("CARGO_BIN_EXE_logcd")).arg("verify").arg(&archive));
    }
}

#[test]
#[ignore = "needs bsdtar, python3, busybox, go: just test-programs"]
fn every_reader_reads_an_hour() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", &"long-name".repeat(12));
    for _ in 0..3 {
        let daemon = node.start(QUICK);
        kubelet.write(pod, 3000);
        daemon.stop();
    }
    let [archive] = &archives(&node.out())[..] else { panic!("one archive") };
    let expected: BTreeMap<Seen, u64> = kubelet.written();
    let path = archive.to_str().unwrap();
    let go = node.root.path().join("read.go");
    std::fs::write(&go, GO).unwrap();
    let readers: [&[&str]; 5] = [
        &["tar", "-xzOf", path],
        &["bsdtar", "-xOf", path],
        &["busybox", "tar", "-xzOf", path],
        &["python3", "-c", PYTHON, path],
        &["go", "run", go.to_str().unwrap(), path],
    ];
    for reader in readers {
        let read = run(Command::new(reader[0]).args(&reader[1..]).env("GOCACHE", node.root.path()));
        assert_eq!(
            read.split_inclusive(|b| *b == b'\n').count() as u64,
            expected.values().sum::<u64>(),
            "{reader:?}"
        );
    }
}

const PYTHON: &str = "import sys,tarfile\nfor m in (t := tarfile.open(sys.argv[1])): sys.stdout.buffer.write(t.extractfile(m).read())";

const GO: &str = r#"package main
import ("archive/tar"; "compress/gzip"; "io"; "os")
func main() {
	f, _ := os.Open(os.Args[1])
	g, err := gzip.NewReader(f)
	if err != nil { panic(err) }
	t := tar.NewReader(g)
	for {
		_, err := t.Next()
		if err == io.EOF { return }
		if err != nil { panic(err) }
		if _, err := io.Copy(os.Stdout, t); err != nil { panic(err) }
	}
}
"#;
