//! Tests that container logs are followed through rotation, compression, deletion, restarts and kills.

use super::reading::readers_agree;
use super::{Node, QUICK};
use crate::support::daemon::Daemon;
use fastrand::Rng;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use trial::kubelet::{Kubelet, archives, lines_of_all};
use trial::wait_until;

#[test]
fn lines_are_archived_by_namespace_and_hour() {
    let (node, mut kubelet) = Node::with_kubelet();
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
    let (node, mut kubelet) = Node::with_kubelet();
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
    let (node, mut kubelet) = Node::with_kubelet();
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

/// Each deletion may write its own lines and changes, but not the state of all containers.
#[test]
fn deleted_pods_cause_few_writes() {
    const CONTAINERS: usize = 300;
    const DELETED: usize = 5;
    // Twice: the log's lines and their entry, an end mark, and the changes of a container and an archive.
    const BYTES_EACH_MAX: u64 = 2 * 4096;
    let (node, mut kubelet) = Node::with_kubelet();
    let pods: Vec<usize> =
        (0..CONTAINERS).map(|number| kubelet.pod("shop", &format!("web-{number}"))).collect();
    pods.iter().for_each(|pod| kubelet.write(*pod, 1));
    let daemon = node.start(&["--publish-within=1h"]);
    wait_until("the first lines", || lines_of_all(&node.out()).len() == CONTAINERS);
    let checkpoint = std::fs::metadata(node.out().join(".logcd-pods.checkpoint")).unwrap().len();
    // The number of bytes in all calls of write.
    let written = || {
        let io = std::fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
        let count = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
        count.parse::<u64>().unwrap()
    };
    let before = written();
    for (number, pod) in pods[..DELETED].iter().enumerate() {
        kubelet.write(*pod, 1);
        kubelet.delete(*pod);
        wait_until("its last line", || lines_of_all(&node.out()).len() > CONTAINERS + number);
        wait_until("it is closed", || !kubelet.is_open_in(&daemon, *pod));
    }
    let written = written() - before;
    let bound = 2 * checkpoint + DELETED as u64 * BYTES_EACH_MAX;
    eprintln!("{DELETED} deletions wrote {written} bytes next to a checkpoint of {checkpoint} bytes");
    assert!(written <= bound, "{written} bytes, above {bound}");
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

/// The pod is deleted before the first sweep, which finds both logs without a name.
#[test]
fn rotated_log_of_a_deleted_pod_is_archived_first() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    kubelet.rotate(pod);
    kubelet.write(pod, 10);
    let daemon = node.start(&["--publish-within=1h"]);
    wait_until("it is open", || kubelet.is_open_in(&daemon, pod));
    kubelet.delete(pod);
    wait_until("its lines", || lines_of_all(&node.out()).len() == kubelet.written().len());
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

/// The runtime writes to a rotated log until it opens the next one. Each even line is in the rotated log, and
/// the next odd line is in the live log.
#[test]
fn rotated_log_is_archived_before_later_lines_of_the_live_one() {
    const LINES_MAX: usize = 400_000;
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    let open =
        |name: &str| OpenOptions::new().create(true).append(true).open(kubelet.dir(pod).join(name)).unwrap();
    let mut logs = ["0.log.20261128-140500", "0.log"].map(open);
    let daemon = node.start(QUICK);
    wait_until("both are open", || daemon.metric("logcd_pods_logs") == 2.0);
    let is_enough = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while number < LINES_MAX && !is_enough.load(Ordering::Relaxed) {
                for log in &mut logs {
                    log.write_all(format!("2026-11-28T14:05:00Z stdout F {number}\n").as_bytes()).unwrap();
                    number += 1;
                }
            }
            number
        });
        wait_until("commits", || writer.is_finished() || daemon.metric("logcd_pods_commits_total") >= 20.0);
        is_enough.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    daemon.stop();
    let mut seen = vec![false; written];
    for line in lines_of_all(&node.out()) {
        let number: usize = line.parse().unwrap();
        seen[number] = true;
        assert!(number.is_multiple_of(2) || seen[number - 1], "line {number} comes before the previous one");
    }
    assert!(seen.iter().all(|seen| *seen));
}

/// The kernel reports a new pod only once, and at that moment nothing can be opened.
#[test]
fn pod_is_found_after_a_lack_of_descriptors() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    let daemon = node.start(&["--publish-within=20ms", "--log-level=debug"]);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 5);
    wait_until_it_sleeps(&daemon);
    // The descriptors 0 to 2 are always in use.
    daemon.limit(Resource::RLIMIT_NOFILE, 3);
    let pod = kubelet.pod("shop", "web-2");
    kubelet.write(pod, 5);
    wait_until("the failure", || daemon.says("container_archiving_failed"));
    daemon.limit(Resource::RLIMIT_NOFILE, u64::MAX);
    wait_until("the other lines", || lines_of_all(&node.out()).len() == 10);
    wait_until_it_sleeps(&daemon);
    daemon.stop();
    kubelet.assert_archived(&node.out());
}

#[test]
fn loss_while_logcd_is_away_is_told() {
    let (node, mut kubelet) = Node::with_kubelet();
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
    // The loss is counted only once.
    let daemon = node.start(QUICK);
    kubelet.write(stays, 1);
    wait_until("the next line", || lines_of_all(&node.out()).len() == 21);
    assert_eq!(daemon.metric("logcd_pods_lost_logs_total"), 0.0);
}

#[test]
fn unreadable_container_is_not_lost() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 10);
    node.start(QUICK).stop();
    // A link is not followed, whichever user runs the daemon.
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
    let (node, mut kubelet) = Node::with_kubelet();
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
    // The logs are archived in the order in which they were written, whether compressed or not.
    let in_order: Vec<String> = (0..kubelet.written().len()).map(|line| format!(" line {line}")).collect();
    let archived = lines_of_all(&node.out());
    assert!(archived.iter().zip(&in_order).all(|(line, end)| line.ends_with(end)), "{archived:?}");
}

#[test]
fn idle_node_causes_no_wake_ups() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    let daemon = node.start(QUICK);
    wait_until("the lines", || lines_of_all(&node.out()).len() == 5);
    wait_until_it_sleeps(&daemon);
    kubelet.write(pod, 1);
    wait_until("the next line", || lines_of_all(&node.out()).len() == 6);
}

/// Waits until the thread that follows logs sleeps for a hundred times its interval.
pub(super) fn wait_until_it_sleeps(daemon: &Daemon) {
    let pid = daemon.pid();
    let switches = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
        let thread = tasks.map(|task| task.path()).find(|task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == "logcd-pods")
        });
        let status = std::fs::read_to_string(thread.unwrap().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let mut before = switches();
    let mut since = std::time::Instant::now();
    wait_until("two seconds of sleep", || {
        let now = switches();
        if now != before {
            (before, since) = (now, std::time::Instant::now());
        }
        since.elapsed() > std::time::Duration::from_secs(2)
    });
}

#[test]
fn lost_reports_of_the_kernel_lose_no_line() {
    let (node, mut kubelet) = Node::with_kubelet();
    let pod = kubelet.pod("shop", "web-1");
    kubelet.write(pod, 5);
    let daemon = node.start(QUICK);
    wait_until("it is quiet", || kubelet.is_quiet_in(&daemon, pod));
    daemon.signal(Signal::SIGSTOP);
    let reports_max = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // Each iteration makes two reports.
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

/// Each line is archived once, through rotations, deletions, restarts and kills at any moment.
#[test]
fn no_line_is_lost_or_repeated() {
    let rounds = number("LOGCD_TEST_ROUNDS", ROUNDS);
    for seed in seeds() {
        eprintln!("LOGCD_TEST_SEEDS={seed} LOGCD_TEST_ROUNDS={rounds}");
        let node = Node::new();
        let mut rng = Rng::with_seed(seed);
        let mut kubelet = Kubelet::new(&node.pods());
        let mut daemon = node.start(QUICK);
        for round in 0..rounds {
            // The daemon needs a moment to open a log, so nothing is deleted before that.
            wait_until("everything is open", || kubelet.all_are_open(&daemon));
            kubelet.act(&mut rng);
            // Deleted logs are in no directory, so the daemon may be killed only after it has read them.
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

/// Rounds of each seed, unless `LOGCD_TEST_ROUNDS` is set. `just attacks` runs thousands.
const ROUNDS: u64 = 25;

/// Returns the seeds in `LOGCD_TEST_SEEDS`. The word `random` stands for a new seed.
fn seeds() -> Vec<u64> {
    let seeds = std::env::var("LOGCD_TEST_SEEDS").unwrap_or_else(|_| "1,2".to_owned());
    let seed = |text: &str| if text == "random" { fastrand::u64(..) } else { text.parse().unwrap() };
    seeds.split(',').map(seed).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}
