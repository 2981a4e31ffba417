//! Tests the directories: bounds, full disks, and files that are removed, replaced or not logcd's.

use super::following::wait_until_it_sleeps;
use super::reading::read;
use super::{Node, QUICK};
use crate::support::daemon::Daemon;
use fastrand::Rng;
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::Command;
use trial::kubelet::{Kubelet, archives, lines_of_all};
use trial::wait_until;

#[test]
fn noisy_namespace_evicts_nothing_of_a_quiet_one() {
    let (node, mut kubelet) = Node::with_kubelet();
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
fn settings_of_a_namespace_come_from_the_file() {
    let (node, mut kubelet) = Node::with_kubelet();
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

/// Waits for an eviction after `keep-bytes` was lowered in the file.
fn assert_lower_bound_is_applied(node: &Node, kubelet: &mut Kubelet, daemon: &Daemon, file: &Path) {
    let pod = kubelet.pod("shop", "web-1");
    let mut rng = Rng::with_seed(2);
    let mut write = |bytes| {
        let before = daemon.metric("logcd_pods_commits_total");
        kubelet.write_noise(pod, &mut rng, bytes);
        wait_until("a commit", || daemon.metric("logcd_pods_commits_total") > before);
    };
    write(3 << 20);
    assert_eq!(daemon.metric("logcd_pods_evicted_bytes_total{namespace=\"shop\"}"), 0.0);
    std::fs::write(file, "keep-bytes = \"1MiB\"\nzstd = true\n").unwrap();
    wait_until("it is read", || daemon.says("settings_reloaded"));
    for _ in 0..4 {
        write(1 << 20);
    }
    // A commit may have only a part of the lines.
    wait_until("an eviction", || daemon.metric("logcd_pods_evicted_bytes_total{namespace=\"shop\"}") > 0.0);
    assert!(archives(&node.out()).iter().all(|archive| archive.extension().is_some_and(|end| end == "gz")));
}

#[test]
fn changed_bounds_are_applied_to_container_logs() {
    let (node, mut kubelet) = Node::with_kubelet();
    let file = node.root.path().join("logcd.toml");
    std::fs::write(&file, "").unwrap();
    let config = format!("--config={}", file.display());
    let daemon = node.start(&["--publish-within=20ms", &config]);
    assert_lower_bound_is_applied(&node, &mut kubelet, &daemon, &file);
    wait_until("the restart", || !daemon.events("restart_required").is_empty());
    assert_eq!(daemon.events("restart_required")[0]["settings"], "zstd");
}

#[test]
fn changed_bounds_are_applied_beside_archives_of_days() {
    let (node, mut kubelet) = Node::with_kubelet();
    let (file, logs) = (node.root.path().join("logcd.toml"), node.root.path().join("log"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&logs).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
    command.args(["--admin=127.0.0.1:0", "--min-free=1", "--publish-within=20ms", "--dir"]).arg(&logs);
    command.arg("--pods").arg(node.pods()).arg("--pods-out").arg(node.out()).arg("--config").arg(&file);
    let daemon = Daemon::run(command);
    daemon.wait_until_ready();
    assert_lower_bound_is_applied(&node, &mut kubelet, &daemon, &file);
    wait_until("the restart", || !daemon.events("pods_restart_required").is_empty());
    assert_eq!(daemon.events("pods_restart_required")[0]["settings"], "zstd");
}

#[test]
fn full_disk_is_reported_and_loses_nothing() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    // Removing this archive would not free enough space.
    let old = node.out().join("shop/2020-01-01T00.tar.gz");
    std::fs::create_dir_all(node.out().join("shop")).unwrap();
    std::fs::write(&old, "old").unwrap();
    let full = Daemon::run(node.command(&["--publish-within=1h", "--min-free=1000TiB"]));
    wait_until("the reason", || full.get("/ready").1.contains("the disk is full"));
    assert!(old.exists());
    // A new log is noticed between two attempts, and changes nothing.
    let other = kubelet.pod("shop", "web-2");
    kubelet.write(other, 10);
    wait_until("it is open", || kubelet.is_open_in(&full, other));
    assert!(full.get("/ready").1.contains("the disk is full"));
    wait_until("further attempts", || full.metric("logcd_pods_failures_total") > 1.0);
    assert_eq!(full.metric("logcd_pods_read_bytes_total"), 0.0);
    full.signal(Signal::SIGKILL);
    full.join();
    assert_eq!(archives(&node.out()), std::slice::from_ref(&old));
    std::fs::remove_file(&old).unwrap();
    let daemon = node.start(QUICK);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 20);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

/// The only sweep of this run finds a full disk, and an old archive whose removal makes room.
#[test]
#[ignore = "needs root: just test-root"]
fn root_sees_one_pass_make_room_and_archive() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    let kept = node.root.path().join("kept");
    std::fs::create_dir(node.out()).unwrap();
    let logcd = node.command(&["--once", "--min-free=8MiB", "--keep-days=10000"]);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", ONE_PASS_ON_A_FULL_DISK, "sh"]);
    command.arg(node.out()).arg(&kept).arg(logcd.get_program()).args(logcd.get_args());
    let output = trial::run_to_end(&mut command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    kubelet.assert_archived(&kept);
}

/// Makes a file system of 16 MiB with an old archive of 12 MiB, runs the command, and copies the result.
const ONE_PASS_ON_A_FULL_DISK: &str = "
    out=$1 kept=$2; shift 2
    mount -t tmpfs -o size=16m tmpfs $out
    mkdir $out/shop
    head -c 12582912 /dev/zero > $out/shop/2026-01-01T00.tar.gz
    \"$@\"
    cp -r $out $kept";

#[test]
fn removed_archive_is_followed_by_a_new_part() {
    let (node, mut kubelet) = Node::with_kubelet();
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
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    let daemon = node.start(QUICK);
    wait_until("the first lines", || lines_of_all(&node.out()).len() == 10);
    std::fs::rename(node.out(), node.root.path().join("moved")).unwrap();
    std::fs::create_dir(node.out()).unwrap();
    kubelet.write(pod, 5);
    // Without a checkpoint, every log counts as new.
    wait_until("all lines", || lines_of_all(&node.out()).len() == 15);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
    kubelet.assert_archived(&node.out());
}

#[test]
fn failed_removal_repeats_no_line() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    // The archive is old enough to be removed, but it is a directory.
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
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    node.start(QUICK).stop();
    let checkpoint = node.out().join(".logcd-pods.checkpoint");
    std::fs::write(&checkpoint, "{").unwrap();
    // A reader must not rename the damaged checkpoint.
    read(&node, &[]);
    assert!(checkpoint.exists());
    let (status, log) = node.start(QUICK).stop();
    assert!(status.success() && log.contains("the checkpoint is damaged"), "{log}");
    assert!(node.out().join(".logcd-pods.checkpoint.damaged").exists());
    // Archiving the lines twice is better than losing them.
    assert_eq!(lines_of_all(&node.out()).len(), 20);
    assert_eq!(read(&node, &[]).lines().count(), 20);
}

#[test]
fn both_kinds_of_archives_share_a_directory() {
    let (node, mut kubelet) = Node::with_kubelet();
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
fn missing_directory_is_awaited() {
    let node = Node::new();
    let pods = node.root.path().join("var/log/pods");
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcd"));
    command.args(["--dir=none", "--admin=127.0.0.1:0", "--min-free=1", "--publish-within=20ms", "--pods"]);
    command.arg(&pods).arg("--pods-out").arg(node.out());
    let daemon = Daemon::run(command);
    daemon.wait_until_ready();
    wait_until("it is told", || daemon.metric("logcd_pods_directory_missing") == 1.0);
    wait_until_it_sleeps(&daemon);
    std::fs::create_dir(node.root.path().join("var")).unwrap();
    wait_until_it_sleeps(&daemon);
    let mut kubelet = Kubelet::new(&pods);
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 5);
    assert_eq!(daemon.metric("logcd_pods_directory_missing"), 0.0);
    assert_eq!(daemon.events("pods_directory_missing").len(), 1);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log}");
}

/// Other programs that watch files can exhaust a user's limit on inotify instances.
#[test]
#[ignore = "needs root: just test-root"]
fn root_is_told_which_limit_on_inotify_is_reached() {
    let node = Node::new();
    let logcd = node.command(QUICK);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.args(["echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"", "sh"]);
    command.arg(logcd.get_program()).args(logcd.get_args()).env("LOGCD_MIN_FREE", "1");
    let daemon = Daemon::run(command);
    wait_until("the reason", || daemon.get("/ready").1.contains("fs.inotify.max_user_instances"));
    assert!(daemon.stop().0.success());
}

#[test]
fn nothing_to_archive_is_refused() {
    let output = trial::run_to_end(Command::new(env!("CARGO_BIN_EXE_logcd")).arg("--dir=none"));
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to archive"));
}
