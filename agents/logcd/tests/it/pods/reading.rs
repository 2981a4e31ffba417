//! Tests that `logcd read`, GNU tar, bsdtar, Python and Go can read the archives.

use super::{Node, QUICK};
use crate::support::{gnu_tar, run};
use fastrand::Rng;
use logcd::archive::codec::Codec;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use trial::kubelet::{Seen, archives, lines_of_all, numbers};
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
    // Without the live logs, only archived lines are printed.
    assert_eq!(read_with(&node, Path::new("none"), &[]), "one\ntwo\nthr\n");
    // A copy has only the archives, without the checkpoint.
    std::fs::remove_file(node.out().join(".logcd-pods.checkpoint")).unwrap();
    assert_eq!(read_with(&node, Path::new("none"), &[]), "one\ntwo\nthr\n");
}

/// Lines as containerd writes them where a log is rotated: the end of a line has an earlier time than its
/// beginning.
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
fn log_that_was_replaced_in_place_is_read_from_its_start() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write_text(pod, "2026-11-28T10:00:01Z stdout F one\n");
    let daemon = node.start(QUICK);
    wait_until("the first line", || lines_of_all(&node.out()).len() == 1);
    daemon.stop();
    // The new content has the inode of the old one, and is longer.
    let text = "2026-11-28T10:00:02Z stdout F two\n2026-11-28T10:00:03Z stdout F three\n";
    std::fs::write(kubelet.dir(pod).join("0.log"), text).unwrap();
    assert_eq!(read(&node, &[]), "one\ntwo\nthree\n");
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
        // For a moment, a log that is being compressed may be open in the daemon and have no name.
        wait_until("every line", || read(&node, &[]).lines().count() >= expected);
        let lines = read(&node, &[]);
        assert_eq!(lines.lines().count(), expected);
        let sorted = lines.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        assert!(sorted.is_sorted());
    }
}

#[test]
fn zstd_archives_are_read_by_tar() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    // The compression changes within the hour, and back again.
    for flags in [&["--zstd"][..], &[], &["--zstd"]] {
        let daemon = node.start(&[QUICK, flags].concat());
        for _ in 0..3 {
            kubelet.write(pod, 100);
            let lines = kubelet.written().len();
            wait_until("the lines", || lines_of_all(&node.out()).len() == lines);
            assert_eq!(read(&node, &[]).lines().count(), lines);
        }
        daemon.signal(nix::sys::signal::Signal::SIGKILL);
        daemon.join();
    }
    let archives = archives(&node.out());
    assert!(archives.len() >= 3, "{archives:?}");
    let suffix =
        |suffix: &str| archives.iter().filter(|path| path.to_string_lossy().ends_with(suffix)).count();
    assert!(suffix(".tar.zst") >= 2 && suffix(".tar.gz") >= 1, "{archives:?}");
    for archive in archives.iter().filter(|path| path.to_string_lossy().ends_with(".zst")) {
        gnu_tar(archive, Codec::Zstd, &["-t".as_ref()]);
        run(Command::new(env!("CARGO_BIN_EXE_logcd")).arg("verify").arg(archive));
    }
    kubelet.assert_archived(&node.out());
}

#[test]
#[ignore = "needs zstd, bsdtar: just test-programs"]
fn zstd_archives_are_read_by_tar_and_bsdtar() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    for _ in 0..2 {
        kubelet.write(pod, 1000);
        run(node.command(&["--zstd", "--once", "--log-level=error"]).env("LOGCD_ADMIN", "none"));
    }
    for reader in [&["tar", "--zstd", "-xOf"], &["bsdtar", "-x", "-Of"]] {
        // There are two archives if the hour has changed meanwhile.
        let read = archives(&node.out())
            .iter()
            .flat_map(|archive| run(Command::new(reader[0]).args(&reader[1..]).arg(archive)))
            .collect::<Vec<u8>>();
        assert_eq!(read.split_inclusive(|b| *b == b'\n').count(), 2000, "{reader:?}");
    }
}

#[test]
fn one_pass_archives_everything_that_is_there() {
    let (node, mut kubelet) = Node::with_kubelet();
    let (web, dns) = (kubelet.pod("shop", "web-1"), kubelet.pod("kube-system", "dns"));
    for _ in 0..3 {
        kubelet.write(web, 100);
        kubelet.rotate(web);
        kubelet.write(dns, 5);
        let output = trial::run_to_end(&mut node.command(&["--once"]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("archived the container logs"), "{said}");
        kubelet.assert_archived(&node.out());
    }
    readers_agree(&node.out());
    // A namespace that cannot be archived is an error.
    std::fs::write(node.out().join("dev"), "no directory").unwrap();
    let pod = kubelet.pod("dev", "web");
    kubelet.write(pod, 5);
    let output = trial::run_to_end(&mut node.command(&["--once"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the namespace dev cannot be archived"));
}

/// Checks that GNU tar, bsdtar, Python and `gzip -t` accept all archives and list the same.
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
    let expected: BTreeMap<Seen, u64> = kubelet.written();
    let go = node.root.path().join("read.go");
    std::fs::write(&go, GO).unwrap();
    let readers: [&[&str]; 5] = [
        &["tar", "-xzOf"],
        &["bsdtar", "-xOf"],
        &["busybox", "tar", "-xzOf"],
        &["python3", "-c", PYTHON],
        &["go", "run", go.to_str().unwrap()],
    ];
    for reader in readers {
        // There are two archives if the hour has changed meanwhile.
        let read = archives(&node.out())
            .iter()
            .flat_map(|archive| {
                let mut command = Command::new(reader[0]);
                run(command.args(&reader[1..]).arg(archive).env("GOCACHE", node.root.path()))
            })
            .collect::<Vec<u8>>();
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
