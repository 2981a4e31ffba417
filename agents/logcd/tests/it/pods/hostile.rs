//! Tests hostile directories: links, leases, names and sizes harm only their owner.

use super::following::wait_until_it_sleeps;
use super::reading::read;
use super::{Node, QUICK};
use crate::support::daemon::Daemon;
use crate::support::run;
use fastrand::Rng;
use logcd::archive::codec::Codec;
use logcd::pods::hour::ArchiveName;
use logcd::pods::hour_archive::draft_name;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use trial::kubelet::{deleted_and_open, lines_of_all};
use trial::wait_until;

#[test]
fn hostile_names_are_skipped() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    let secret = node.root.path().join("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let dir = kubelet.dir(pod);
    symlink(&secret, dir.join("1.log")).unwrap();
    std::fs::hard_link(&secret, dir.join("2.log")).unwrap();
    nix::unistd::mkfifo(&dir.join("3.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(dir.join("4.log")).unwrap();
    symlink(node.root.path(), node.pods().join("shop_link_1")).unwrap();
    std::fs::write(node.pods().join("shop_file_1"), "no directory").unwrap();
    std::fs::create_dir(node.out()).unwrap();
    symlink(node.root.path(), node.out().join("link")).unwrap();
    std::fs::write(node.out().join("file"), "no directory").unwrap();
    let daemon = node.start(QUICK);
    kubelet.write(pod, 5);
    wait_until("the good lines", || lines_of_all(&node.out()).len() == 5);
    wait_until("they are counted", || daemon.metric("logcd_pods_skipped_names_total") >= 4.0);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn unreadable_container_causes_no_wake_ups() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    let daemon = node.start(QUICK);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 5);
    let (dir, aside) = (kubelet.dir(pod), node.root.path().join("aside"));
    std::fs::rename(&dir, &aside).unwrap();
    symlink(&aside, &dir).unwrap();
    wait_until("it is told", || daemon.says("container_unreadable"));
    wait_until_it_sleeps(&daemon);
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    kubelet.write(pod, 5);
    wait_until("the next lines", || lines_of_all(&node.out()).len() == 10);
    wait_until_it_sleeps(&daemon);
    assert_eq!(daemon.events("container_unreadable").len(), 1);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn sparse_log_is_counted_and_causes_no_wake_ups() {
    let (node, mut kubelet) = Node::with_kubelet();
    let (hostile, good) = (kubelet.pod("aaa", "hostile"), kubelet.pod("shop", "web-1"));
    sparse(&kubelet.dir(hostile).join("1.log"), 1 << 40);
    kubelet.write(good, 5);
    let daemon = node.start(QUICK);
    wait_until("the good lines", || lines_of_all(&node.out()).len() == 5);
    wait_until_it_sleeps(&daemon);
    wait_until("it is counted", || daemon.metric("logcd_pods_skipped_names_total") == 1.0);
    assert_eq!(daemon.events("sparse_container_log_skipped").len(), 1);
    // The data in a deleted log is lost.
    kubelet.delete(hostile);
    wait_until("the loss", || daemon.metric("logcd_pods_lost_logs_total") == 1.0);
    wait_until_it_sleeps(&daemon);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn skipped_logs_are_tried_again() {
    let (node, mut kubelet) = Node::with_kubelet();
    let (first, second) = (kubelet.pod("shop", "web-1"), kubelet.pod("shop", "web-2"));
    kubelet.write(first, 5);
    kubelet.write(second, 5);
    // The link is outside of the container's directory, where its removal would be reported.
    let other = node.root.path().join("other");
    std::fs::hard_link(kubelet.dir(first).join("0.log"), &other).unwrap();
    let daemon = node.start(&["--publish-within=20ms", "--max-files=1"]);
    wait_until("the second log", || lines_of_all(&node.out()).len() == 5);
    std::fs::remove_file(other).unwrap();
    // Only one log may be open.
    kubelet.delete(second);
    wait_until("the first log", || lines_of_all(&node.out()).len() == 10);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

/// The kernel does not report that a log has lost its other name, and nothing else wakes logcd.
#[test]
fn skipped_log_of_an_idle_node_is_tried_again() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    let daemon = node.start(QUICK);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 5);
    wait_until_it_sleeps(&daemon);
    let other = node.root.path().join("other");
    std::fs::write(&other, "2026-11-28T10:00:00Z stdout F other line 0\n").unwrap();
    std::fs::hard_link(&other, kubelet.dir(pod).join("1.log")).unwrap();
    wait_until("it is skipped", || daemon.metric("logcd_pods_skipped_names_total") == 1.0);
    std::fs::remove_file(other).unwrap();
    wait_until("its line", || lines_of_all(&node.out()).len() == 6);
}

/// The deleted logs occupy the full disk.
#[test]
fn deleted_logs_are_given_up_on_a_full_disk() {
    let (node, mut kubelet) = Node::with_kubelet();
    let bound = 128 << 10;
    let full =
        Daemon::run(node.command(&["--publish-within=20ms", "--min-free=1000TiB", "--max-deleted=128KiB"]));
    let mut rng = Rng::with_seed(4);
    for number in 0..6 {
        let pod = kubelet.pod("shop", &format!("job-{number}"));
        kubelet.write_noise(pod, &mut rng, 64 << 10);
        wait_until("it is open", || kubelet.is_open_in(&full, pod));
        kubelet.delete(pod);
    }
    wait_until("the oldest are closed", || deleted_and_open(&full).iter().sum::<u64>() <= bound);
    // They are counted after they were closed.
    wait_until("the losses", || full.metric("logcd_pods_given_up_bytes_total") >= f64::from(256 << 10));
    assert!(full.metric("logcd_pods_lost_logs_total") >= 4.0);
    wait_until("their events", || full.events("container_log_given_up").len() >= 4);
    let events = full.events("container_log_given_up");
    assert!(
        events.len() >= 4 && events[0]["namespace"] == "shop" && events[0]["pod"] == "job-0",
        "{events:?}"
    );
    // The newest log stays open.
    assert!(!deleted_and_open(&full).is_empty());
}

/// A file under a lease cannot be opened for up to 45 seconds.
#[test]
fn leased_logs_delay_no_other() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    #[allow(unsafe_code, reason = "the signal that a lease is asked for would end the test")]
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.unwrap();
    let mut leased = Vec::new();
    for number in 0..8 {
        let hostile = kubelet.pod("dev", &format!("hostile-{number}"));
        let path = kubelet.dir(hostile).join("1.log");
        std::fs::write(&path, "2026-11-28T10:00:00Z stdout F leased line 0\n").unwrap();
        let file = File::open(path).unwrap();
        // A process that another test starts may hold the file open for writing until its `exec`.
        wait_until("the lease", || {
            #[allow(unsafe_code, reason = "nix has no leases")]
            // SAFETY: the descriptor is open, and the call takes a number.
            let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
            result == 0
        });
        leased.push(file);
    }
    let once = trial::run_to_end(&mut node.command(&["--once"]));
    let said = String::from_utf8_lossy(&once.stderr);
    assert!(once.status.code() == Some(1) && said.contains("could not be read"), "{said}");
    assert_eq!(lines_of_all(&node.out()).len(), 5);
    let daemon = node.start(QUICK);
    wait_until("it is skipped", || daemon.says("container_log_skipped"));
    let count = leased.len();
    drop(leased);
    wait_until("the leased lines", || lines_of_all(&node.out()).len() == 5 + count);
}

/// Returns the name of the archive of an hour from now.
fn archive_in(hours: i64) -> ArchiveName {
    let time = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC) + jiff::Span::new().hours(hours);
    ArchiveName::at(time.datetime(), Codec::Gzip)
}

#[test]
fn strange_names_of_namespaces_harm_only_them() {
    let (node, mut kubelet) = Node::with_kubelet();
    let elsewhere = node.root.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::create_dir(node.out()).unwrap();
    let (link, file, draft) = (node.out().join("link"), node.out().join("file"), node.out().join("draft"));
    symlink(&elsewhere, &link).unwrap();
    std::fs::write(&file, "no directory").unwrap();
    for hours in 0..3 {
        std::fs::create_dir_all(draft.join(draft_name(archive_in(hours)))).unwrap();
    }
    for namespace in ["draft", "file", "link", "shop"] {
        let pod = kubelet.pod(namespace, "web");
        kubelet.write(pod, 5);
    }
    let daemon = node.start(QUICK);
    let pod = kubelet.pod("zoo", "last");
    kubelet.write(pod, 5);
    wait_until("the good lines", || lines_of_all(&node.out()).len() == 10);
    wait_until("the others are told", || daemon.metric("logcd_pods_refused_namespaces") == 3.0);
    assert_eq!(daemon.get("/ready").0, 200);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    wait_until("their events", || daemon.events("namespace_refused").len() >= 3);
    let names: Vec<_> = daemon.events("namespace_refused");
    assert_eq!(
        names.iter().map(|event| event["namespace"].as_str().unwrap()).collect::<Vec<_>>(),
        ["draft", "file", "link"]
    );
    // Further sweeps do not hide how long the refused lines have waited.
    let waiting_since = daemon.metric("logcd_pods_waiting_since_timestamp_seconds");
    wait_until("a later second", || {
        f64::from(i32::try_from(jiff::Timestamp::now().as_second()).unwrap()) > waiting_since + 1.0
    });
    for _ in 0..2 {
        let (failures, lines) = (daemon.metric("logcd_pods_failures_total"), kubelet.written().len() - 15);
        kubelet.write(pod, 1);
        wait_until("a sweep", || {
            lines_of_all(&node.out()).len() == lines + 1
                && daemon.metric("logcd_pods_failures_total") >= failures + 3.0
        });
    }
    assert_eq!(daemon.metric("logcd_pods_waiting_since_timestamp_seconds"), waiting_since);
    std::fs::remove_file(link).unwrap();
    std::fs::remove_file(file).unwrap();
    std::fs::remove_dir_all(draft).unwrap();
    wait_until("all lines", || lines_of_all(&node.out()).len() == 27);
    wait_until("all are accepted", || daemon.metric("logcd_pods_refused_namespaces") == 0.0);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

/// The lines of a commit stay hidden while the name of their archive leads to something else.
#[test]
fn hidden_lines_are_shown_without_new_ones() {
    let (node, mut kubelet) = Node::with_kubelet();
    let daemon = node.start(QUICK);
    let hours = [0, 1].map(|hours| node.out().join("shop").join(archive_in(hours).to_string()));
    hours.iter().for_each(|strange| std::fs::create_dir_all(strange).unwrap());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    wait_until("it is refused", || daemon.metric("logcd_pods_refused_namespaces") == 1.0);
    hours.iter().for_each(|strange| std::fs::remove_dir(strange).unwrap());
    wait_until("the lines", || lines_of_all(&node.out()).len() == 5);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn reader_opens_no_strangers_file() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    node.start(QUICK).stop();
    let secret = node.root.path().join("secret");
    std::fs::write(&secret, "2026-11-28T10:00:00Z stdout F secret\n").unwrap();
    std::fs::hard_link(&secret, kubelet.dir(pod).join("1.log")).unwrap();
    let [archive] = &trial::kubelet::archives(&node.out())[..] else { panic!("one archive") };
    let other = node.out().join("dev");
    std::fs::create_dir(&other).unwrap();
    // This archive has the same lines under another namespace's name.
    std::fs::hard_link(archive, node.root.path().join("aside")).unwrap();
    std::fs::rename(node.root.path().join("aside"), other.join("2026-11-28T09.tar.gz")).unwrap();
    nix::unistd::mkfifo(&other.join("2026-11-28T10.tar.gz"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink(archive, other.join("2026-11-28T11.tar.gz")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
    command.args(["read", "--namespace=dev", "--pods"]).arg(node.pods()).arg("--pods-out").arg(node.out());
    let output = trial::run_to_end(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout.is_empty() && output.status.code() == Some(1), "{said}");
    assert!(said.contains("dev/2026-11-28T") && said.contains("not printed"), "{said}");
    std::fs::remove_dir_all(other).unwrap();
    let lines = read(&node, &[]);
    assert!(lines.lines().count() == 5 && !lines.contains("secret"), "{lines}");
}

/// Runs `logcd read` with at most 32 descriptors.
fn read_with_few_descriptors(node: &Node, pods: &Path) -> std::process::Output {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 32 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_logcd"), "read", "--pods"]);
    command.arg(pods).arg("--pods-out").arg(node.out());
    trial::run_to_end(&mut command)
}

#[test]
fn reader_of_many_archives_needs_few_descriptors() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 1);
    node.start(QUICK).stop();
    let [archive] = &trial::kubelet::archives(&node.out())[..] else { panic!("one archive") };
    for hour in 0..96 {
        let copy = format!("2026-01-{:02}T{:02}.tar.gz", 1 + hour / 24, hour % 24);
        std::fs::copy(archive, archive.with_file_name(copy)).unwrap();
    }
    let output = read_with_few_descriptors(&node, Path::new("none"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 97, "{said}");
}

#[test]
fn reader_tells_which_live_logs_it_cannot_open() {
    let (node, mut kubelet) = Node::with_kubelet();
    node.start(QUICK).stop();
    for number in 0..60 {
        let pod = kubelet.pod("shop", &format!("web-{number}"));
        kubelet.write(pod, 1);
    }
    let output = read_with_few_descriptors(&node, &node.pods());
    let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    // The lines of the other logs are printed.
    assert!((1..60).contains(&printed.lines().count()), "{printed}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("shop_web-") && said.contains("not printed"), "{said}");
    assert_eq!(read(&node, &[]).lines().count(), 60);
}

/// The live logs of two containers from the same time are larger than the memory that the reader may use.
#[test]
fn reader_takes_bounded_memory() {
    let (node, mut kubelet) = Node::with_kubelet();
    let daemon = node.start(QUICK);
    daemon.stop();
    let pods = [kubelet.pod("shop", "web-1"), kubelet.pod("shop", "web-2")];
    let start: jiff::Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
    let filler = "x".repeat(2000);
    let lines_of_each = 15_000_u32;
    for (odd, pod) in (0..).zip(pods) {
        let mut file = std::io::BufWriter::new(File::create(kubelet.dir(pod).join("0.log")).unwrap());
        for number in 0..lines_of_each {
            let time = start + std::time::Duration::from_millis(u64::from(2 * number + odd));
            writeln!(file, "{time} stdout F {} {filler}", 2 * number + odd).unwrap();
        }
    }
    let read = format!(
        "ulimit -v {}; {} read --pods-out {} --pods {} | cut -d' ' -f1 | tee {} | wc -l",
        64 << 10,
        env!("CARGO_BIN_EXE_logcd"),
        node.out().display(),
        node.pods().display(),
        node.root.path().join("numbers").display(),
    );
    let count = run(Command::new("sh").arg("-c").arg(read));
    assert_eq!(String::from_utf8(count).unwrap().trim(), (2 * lines_of_each).to_string());
    let numbers = std::fs::read_to_string(node.root.path().join("numbers")).unwrap();
    assert!(numbers.lines().map(|number| number.parse::<u32>().unwrap()).eq(0..2 * lines_of_each));
}

/// Three namespaces have more logs than there are descriptors.
#[test]
fn crowds_of_some_namespaces_leave_descriptors_to_others() {
    let (node, mut kubelet) = Node::with_kubelet();
    for crowd in ["aaa", "bbb", "ccc"] {
        for number in 0..100 {
            let pod = kubelet.pod(crowd, &format!("web-{number}"));
            kubelet.write(pod, 1);
        }
    }
    let logcd = node.command(QUICK);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 256 && exec \"$@\"", "sh"])
        .arg(logcd.get_program())
        .args(logcd.get_args());
    command.env("LOGCD_MIN_FREE", "1");
    let daemon = Daemon::run(command);
    daemon.wait_until_ready();
    wait_until("some lines of each", || {
        let lines = lines_of_all(&node.out());
        ["aaa_", "bbb_", "ccc_"].iter().all(|crowd| lines.iter().any(|line| line.starts_with(crowd)))
    });
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    wait_until("the good lines", || {
        lines_of_all(&node.out()).iter().filter(|line| line.starts_with("shop_")).count() == 5
    });
    let reduced = daemon.events("container_logs_reduced");
    assert_eq!(reduced[0]["wanted"], 10_000);
    assert_eq!(reduced[0]["allowed"], 128);
    assert!(daemon.stop().0.success());
}

/// Names with odd bytes, sparse files, crowds of files and a flood of lines harm no other container.
#[test]
fn hostile_pod_harms_nobody() {
    const CROWD: u32 = 20_000;
    let (node, mut kubelet) = Node::with_kubelet();
    let (hostile, good) = (kubelet.pod("aaa", "hostile"), kubelet.pod("shop", "web-1"));
    let dir = kubelet.dir(hostile);
    for name in [
        &b"\xff\xfe.log"[..],
        b"0.log\n",
        b"..log",
        b"00.log",
        b"-1.log",
        b"4294967296.log",
        b"a b.log",
        b"\x1b[2J.log",
    ] {
        std::fs::write(dir.join(std::ffi::OsStr::from_bytes(name)), "no log\n").unwrap();
        let pod = [&b"aaa_"[..], name, b"_1"].concat();
        std::fs::create_dir_all(node.pods().join(std::ffi::OsStr::from_bytes(&pod)).join("app")).unwrap();
    }
    sparse(&dir.join("1.log"), 1 << 40);
    for number in 0..CROWD {
        std::fs::write(dir.join(format!("{}.log", number + 10)), "").unwrap();
    }
    let daemon = node.start(&["--publish-within=20ms", "--max-files=2000"]);
    let mut rng = Rng::with_seed(5);
    let began = std::time::Instant::now();
    for _ in 0..20 {
        kubelet.write_noise(hostile, &mut rng, 1 << 20);
        kubelet.write(good, 5);
    }
    wait_until("the good lines", || {
        let lines = lines_of_all(&node.out());
        lines.iter().filter(|line| line.starts_with("shop_")).count() == 100
    });
    eprintln!("a flood of 20 MiB beside {CROWD} files: archived after {:?}", began.elapsed());
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(descriptors < 1500, "{descriptors} descriptors");
    wait_until("skipped names", || {
        daemon.metric("logcd_pods_skipped_names_total") >= f64::from(CROWD - 1000)
    });
    assert_eq!(daemon.get("/ready").0, 200);
    let (status, log) = daemon.stop();
    assert!(status.success() && !log.contains("panicked"), "{log}");
}

#[test]
fn five_hundred_containers_take_bounded_memory() {
    const CONTAINERS: u32 = 500;
    const MEMORY_BYTES_MAX: u64 = 24 << 20;
    let (node, mut kubelet) = Node::with_kubelet();
    let pods: Vec<usize> = (0..CONTAINERS)
        .map(|number| kubelet.pod(&format!("team-{}", number % 20), &format!("web-{number}")))
        .collect();
    let daemon = node.start(QUICK);
    for _ in 0..3 {
        for pod in &pods {
            kubelet.write(*pod, 20);
        }
        let lines = kubelet.written().len();
        wait_until("the lines", || lines_of_all(&node.out()).len() == lines);
    }
    let memory = daemon.memory_bytes("RssAnon");
    eprintln!("{CONTAINERS} containers: {memory} bytes");
    assert!(memory < MEMORY_BYTES_MAX, "{memory} bytes");
    wait_until("they are counted", || daemon.metric("logcd_pods_logs") == f64::from(CONTAINERS));
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

fn sparse(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}
