//! Container logs, written and rotated as kubelet does it.

use crate::support::daemon::Daemon;
use crate::support::kubelet::{Kubelet, Seen, archives, lines_of_all, numbers};
use crate::support::run;
use fastrand::Rng;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use trial::wait_until;

/// A directory for logs and one for archives.
struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let root = tempfile::Builder::new().prefix("logcd-pods-").tempdir().unwrap();
        std::fs::create_dir(root.path().join("pods")).unwrap();
        Node { root }
    }

    fn pods(&self) -> PathBuf {
        self.root.path().join("pods")
    }

    fn out(&self) -> PathBuf {
        self.root.path().join("out")
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
        command.args(["--dir=none", "--admin=127.0.0.1:0", "--utc", "--pods"]).arg(self.pods());
        command.arg("--pods-out").arg(self.out()).args(flags).env("LOGCD_MIN_FREE", "1");
        command
    }

    fn start(&self, flags: &[&str]) -> Daemon {
        let daemon = Daemon::run(self.command(flags));
        daemon.wait_until_ready();
        daemon
    }
}

/// Logs each line when it is due, so that a test need not wait.
const QUICK: &[&str] = &["--publish-within=20ms"];

#[test]
fn lines_are_archived_by_namespace_and_hour() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let (shop, system) = (kubelet.pod("shop", "web-1"), kubelet.pod("kube-system", "dns"));
    kubelet.write(shop, 3);
    let daemon = node.start(QUICK);
    kubelet.write(system, 2);
    wait_until("both namespaces", || lines_of_all(&node.out()).len() == 5);
    kubelet.write(shop, 4);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
    kubelet.assert_archived(&node.out());
    let names: Vec<String> = archives(&node.out())
        .iter()
        .map(|path| path.strip_prefix(node.out()).unwrap().display().to_string())
        .collect();
    assert!(names.iter().any(|name| name.starts_with("shop/20") && name.ends_with(".tar.gz")), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("kube-system/20")), "{names:?}");
}

#[test]
fn stop_archives_everything_written_before_it() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let daemon = node.start(&["--publish-within=1h"]);
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 1000);
    kubelet.rotate(pod);
    kubelet.write(pod, 10);
    let short = kubelet.pod("shop", "job-1");
    kubelet.write(short, 7);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
    kubelet.assert_archived(&node.out());
}

#[test]
fn deleted_pod_is_read_to_its_end() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let daemon = node.start(&["--publish-within=1h"]);
    let pod = kubelet.pod("shop", "job-1");
    kubelet.write(pod, 10);
    wait_until("it is open", || daemon.metric("logcd_pods_logs") > 0.0 || kubelet.is_open_in(&daemon, pod));
    kubelet.write(pod, 1000);
    kubelet.delete(pod);
    wait_until("its last lines", || lines_of_all(&node.out()).len() == 1010);
    wait_until("it is closed", || {
        !kubelet.is_open_in(&daemon, pod) && daemon.metric("logcd_pods_departed_logs") == 0.0
    });
    kubelet.assert_archived(&node.out());
    assert_eq!(daemon.metric("logcd_pods_lost_logs_total"), 0.0);
}

#[test]
fn loss_while_logcd_is_away_is_told() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let daemon = node.start(QUICK);
    let (gone, stays) = (kubelet.pod("shop", "gone"), kubelet.pod("shop", "stays"));
    kubelet.write(gone, 10);
    kubelet.write(stays, 10);
    daemon.stop();
    kubelet.delete(gone);
    let daemon = node.start(QUICK);
    wait_until("the loss", || daemon.metric("logcd_pods_lost_logs_total") == 1.0);
    let (_, log) = daemon.stop();
    assert!(log.contains("shop_gone_"), "{log}");
    // Told once.
    let daemon = node.start(QUICK);
    kubelet.write(stays, 1);
    wait_until("the next line", || lines_of_all(&node.out()).len() == 21);
    assert_eq!(daemon.metric("logcd_pods_lost_logs_total"), 0.0);
}

#[test]
fn unreadable_container_is_not_lost() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    node.start(QUICK).stop();
    // A link is not followed, whoever starts the daemon.
    let (dir, aside) = (kubelet.dir(pod), node.root.path().join("aside"));
    std::fs::rename(&dir, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &dir).unwrap();
    let daemon = node.start(QUICK);
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    kubelet.write(pod, 5);
    wait_until("the next lines", || lines_of_all(&node.out()).len() == 15);
    assert_eq!(daemon.metric("logcd_pods_lost_logs_total"), 0.0);
    let (_, log) = daemon.stop();
    assert!(log.contains("containers_unreadable"), "{log}");
    kubelet.assert_archived(&node.out());
}

#[test]
fn rotated_and_compressed_logs_are_caught_up_after_a_restart() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    let daemon = node.start(QUICK);
    wait_until("the first lines", || lines_of_all(&node.out()).len() == 10);
    daemon.stop();
    kubelet.write(pod, 10);
    for _ in 0..3 {
        kubelet.rotate(pod);
        kubelet.write(pod, 10);
    }
    let daemon = node.start(QUICK);
    wait_until("what came meanwhile", || lines_of_all(&node.out()).len() == kubelet.written().len());
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn noisy_namespace_evicts_nothing_of_a_quiet_one() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let (quiet, noisy) = (kubelet.pod("quiet", "a"), kubelet.pod("noisy", "b"));
    kubelet.write(quiet, 100);
    let daemon = node.start(&["--publish-within=20ms", "--keep-bytes=4MiB"]);
    wait_until("the quiet lines", || lines_of_all(&node.out()).len() == 100);
    let noise = |daemon: &Daemon| daemon.metric("logcd_pods_evicted_bytes_total{namespace=\"noisy\"}");
    let mut rng = Rng::with_seed(1);
    while noise(&daemon) == 0.0 {
        let before = daemon.metric("logcd_pods_commits_total");
        kubelet.write_noise(noisy, &mut rng, 1 << 20);
        wait_until("a commit", || daemon.metric("logcd_pods_commits_total") > before);
    }
    assert!(daemon.metric("logcd_pods_kept_bytes") < f64::from(5 << 20));
    let seen = lines_of_all(&node.out());
    assert_eq!(seen.iter().filter(|line| line.starts_with("quiet_")).count(), 100);
    assert_eq!(daemon.metric("logcd_pods_evicted_bytes_total{namespace=\"quiet\"}"), 0.0);
}

#[test]
fn full_disk_is_reported_and_loses_nothing() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    // Its removal would not help.
    let old = node.out().join("shop/2020-01-01T00.tar.gz");
    std::fs::create_dir_all(node.out().join("shop")).unwrap();
    std::fs::write(&old, "old").unwrap();
    let full = Daemon::run(node.command(&["--publish-within=1h", "--min-free=1000TiB"]));
    wait_until("the reason", || full.get("/ready").1.contains("the disk is full"));
    assert!(old.exists());
    // A new log is noticed between two attempts, which changes nothing.
    let other = kubelet.pod("shop", "web-2");
    kubelet.write(other, 10);
    wait_until("it is open", || kubelet.is_open_in(&full, other));
    assert!(full.get("/ready").1.contains("the disk is full"));
    assert!(full.metric("logcd_pods_failures_total") > 0.0);
    full.signal(Signal::SIGKILL);
    full.join();
    assert_eq!(archives(&node.out()), std::slice::from_ref(&old));
    std::fs::remove_file(&old).unwrap();
    let daemon = node.start(QUICK);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 20);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn removed_archive_is_followed_by_a_new_part() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    let daemon = node.start(QUICK);
    wait_until("the first lines", || lines_of_all(&node.out()).len() == 10);
    for archive in archives(&node.out()) {
        std::fs::remove_file(archive).unwrap();
    }
    kubelet.write(pod, 5);
    wait_until("the next lines", || lines_of_all(&node.out()).len() == 5);
    let (status, log) = daemon.stop();
    assert!(status.success() && log.contains("hour_archive_altered"), "{log}");
    assert_eq!(lines_of_all(&node.out()).len(), 5);
}

#[test]
fn replaced_directory_for_archives_is_opened_again() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    let daemon = node.start(QUICK);
    wait_until("the first lines", || lines_of_all(&node.out()).len() == 10);
    std::fs::rename(node.out(), node.root.path().join("moved")).unwrap();
    std::fs::create_dir(node.out()).unwrap();
    kubelet.write(pod, 5);
    // Without a checkpoint every log is new.
    wait_until("all lines", || lines_of_all(&node.out()).len() == 15);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
    kubelet.assert_archived(&node.out());
}

#[test]
fn failed_removal_repeats_no_line() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    // It is old, and no file that can be unlinked.
    let old = node.out().join("shop/2020-01-01T00.tar.gz");
    std::fs::create_dir_all(&old).unwrap();
    kubelet.write(pod, 10);
    let daemon = node.start(QUICK);
    wait_until("a commit", || daemon.metric("logcd_pods_commits_total") > 0.0);
    kubelet.write(pod, 10);
    let (status, log) = daemon.stop();
    assert!(status.success() && log.contains("archive_tidying_failed"), "{log}");
    std::fs::remove_dir(&old).unwrap();
    kubelet.assert_archived(&node.out());
}

#[test]
fn damaged_checkpoint_is_kept_and_reported() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    node.start(QUICK).stop();
    let checkpoint = node.out().join(".logcd-pods.checkpoint");
    std::fs::write(&checkpoint, "{").unwrap();
    // A reader leaves it where it is.
    read(&node, &[]);
    assert!(checkpoint.exists());
    let (status, log) = node.start(QUICK).stop();
    assert!(status.success() && log.contains("the checkpoint is damaged"), "{log}");
    assert!(node.out().join(".logcd-pods.checkpoint.damaged").exists());
    // Twice is better than never.
    assert_eq!(lines_of_all(&node.out()).len(), 20);
    assert_eq!(read(&node, &[]).lines().count(), 20);
}

#[test]
fn settings_of_a_namespace_come_from_the_file() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let (bound, free) = (kubelet.pod("bound", "a"), kubelet.pod("free", "b"));
    let file = node.root.path().join("logcd.toml");
    std::fs::write(&file, "[namespace.\"bou*\"]\nkeep-bytes = \"1MiB\"\n").unwrap();
    let config = format!("--config={}", file.display());
    let daemon = node.start(&["--publish-within=20ms", &config]);
    let evicted = |namespace: &str| {
        daemon.metric(&format!("logcd_pods_evicted_bytes_total{{namespace=\"{namespace}\"}}"))
    };
    let mut rng = Rng::with_seed(2);
    while evicted("bound") == 0.0 {
        let before = daemon.metric("logcd_pods_commits_total");
        kubelet.write_noise(bound, &mut rng, 1 << 20);
        kubelet.write_noise(free, &mut rng, 1 << 20);
        wait_until("a commit", || daemon.metric("logcd_pods_commits_total") > before);
    }
    assert_eq!(evicted("free"), 0.0);
}

#[test]
fn both_kinds_of_archives_share_a_directory() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    let logs = node.root.path().join("log");
    std::fs::create_dir(&logs).unwrap();
    std::fs::write(logs.join("node.log"), "line\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
    command
        .args(["--admin=127.0.0.1:0", "--min-free=1", "--interval=20ms", "--publish-within=20ms", "--dir"])
        .arg(&logs);
    command.arg("--out").arg(node.out()).arg("--pods").arg(node.pods()).arg("--pods-out").arg(node.out());
    let daemon = Daemon::run(command);
    daemon.wait_until_ready();
    wait_until("the lines", || lines_of_all(&node.out()).len() == 10);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
    let days = std::fs::read_dir(node.out()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(days.filter(|name| name.to_string_lossy().starts_with("all-logs-")).count(), 1);
}

#[test]
fn nothing_to_archive_is_refused() {
    let output = trial::run_to_end(Command::new(env!("CARGO_BIN_EXE_logcd")).arg("--dir=none"));
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to archive"));
}

#[test]
fn hostile_names_are_skipped() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    let secret = node.root.path().join("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let dir = kubelet.dir(pod);
    std::os::unix::fs::symlink(&secret, dir.join("1.log")).unwrap();
    std::fs::hard_link(&secret, dir.join("2.log")).unwrap();
    nix::unistd::mkfifo(&dir.join("3.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(dir.join("4.log")).unwrap();
    std::os::unix::fs::symlink(node.root.path(), node.pods().join("shop_link_1")).unwrap();
    std::fs::write(node.pods().join("shop_file_1"), "no directory").unwrap();
    std::fs::create_dir(node.out()).unwrap();
    std::os::unix::fs::symlink(node.root.path(), node.out().join("link")).unwrap();
    std::fs::write(node.out().join("file"), "no directory").unwrap();
    let daemon = node.start(QUICK);
    kubelet.write(pod, 5);
    wait_until("the good lines", || lines_of_all(&node.out()).len() == 5);
    assert!(daemon.metric("logcd_pods_skipped_names_total") >= 4.0);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn idle_node_causes_no_wake_ups() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    let daemon = node.start(QUICK);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 5);
    let pid = daemon.pid();
    let switches = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
        let thread = tasks
            .map(|task| task.path())
            .find(|task| std::fs::read_to_string(task.join("comm")).unwrap().trim() == "logcd-pods");
        let status = std::fs::read_to_string(thread.unwrap().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    // A hundred times the interval without a wake-up in between.
    let mut before = switches();
    let mut since = std::time::Instant::now();
    wait_until("two seconds of sleep", || {
        let now = switches();
        if now != before {
            (before, since) = (now, std::time::Instant::now());
        }
        since.elapsed() > std::time::Duration::from_secs(2)
    });
    kubelet.write(pod, 1);
    wait_until("the next line", || lines_of_all(&node.out()).len() == 6);
}

#[test]
fn lost_reports_of_the_kernel_lose_no_line() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    let daemon = node.start(QUICK);
    wait_until("it is quiet", || kubelet.is_quiet_in(&daemon, pod));
    daemon.signal(Signal::SIGSTOP);
    let reports_max = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // Each makes two reports.
    for _ in 0..reports_max.trim().parse::<u64>().unwrap() / 2 + 10 {
        std::fs::create_dir(node.pods().join("other")).unwrap();
        std::fs::remove_dir(node.pods().join("other")).unwrap();
    }
    kubelet.write(pod, 5);
    daemon.signal(Signal::SIGCONT);
    wait_until("the next lines", || lines_of_all(&node.out()).len() == 10);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

fn read(node: &Node, flags: &[&str]) -> String {
    read_with(node, &node.pods(), flags)
}

fn read_with(node: &Node, pods: &Path, flags: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
    command.arg("read").arg("--pods-out").arg(node.out()).arg("--pods").arg(pods).args(flags);
    String::from_utf8(run(&mut command)).unwrap()
}

#[test]
fn lines_are_read_in_the_order_of_time_archived_or_not() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
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

#[test]
fn reader_beside_the_daemon_sees_each_line_once() {
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
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

/// Every line once, through rotations, deletions, restarts and kills at any moment.
#[test]
fn no_line_is_lost_or_repeated() {
    for seed in seeds() {
        let node = Node::new();
        let mut rng = Rng::with_seed(seed);
        let mut kubelet = Kubelet::new(&node.pods());
        let mut daemon = node.start(QUICK);
        for round in 0..ROUNDS {
            // Nothing is deleted before the daemon can have opened it: that takes it a moment.
            wait_until("everything is open", || kubelet.all_are_open(&daemon));
            kubelet.act(&mut rng);
            // Deleted logs are in no directory: only a daemon that has read them may be killed.
            if rng.u64(..12) == 0 {
                wait_until("deleted logs are read", || kubelet.deleted_are_closed(&daemon));
                if rng.u64(..2) == 0 {
                    daemon.signal(Signal::SIGKILL);
                    daemon.join();
                } else {
                    let (status, log) = daemon.stop();
                    assert!(status.success(), "seed {seed}, round {round}: {log}");
                }
                kubelet.is_watched = false;
                for _ in 0..rng.u64(..4) {
                    kubelet.act(&mut rng);
                }
                daemon = node.start(QUICK);
                kubelet.is_watched = true;
            }
        }
        let (status, log) = daemon.stop();
        assert!(status.success(), "seed {seed}: {log}");
        assert!(!log.contains("\"ERROR\""), "seed {seed}: {log}");
        if let Err(why) = kubelet.check(&node.out()) {
            let kept = node.root.keep();
            panic!("seed {seed}, kept in {}: {why}", kept.display());
        }
        readers_agree(&node.out());
    }
}

const ROUNDS: u64 = 150;

fn seeds() -> Vec<u64> {
    match std::env::var("LOGCD_TEST_SEEDS") {
        Ok(seeds) => seeds.split(',').map(|seed| seed.parse().unwrap()).collect(),
        Err(_) => vec![1, 2, 3],
    }
}

/// GNU tar, bsdtar, Python and `gzip -t` accept all archives, and list the same.
fn readers_agree(out: &Path) {
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
    let node = Node::new();
    let mut kubelet = Kubelet::new(&node.pods());
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
