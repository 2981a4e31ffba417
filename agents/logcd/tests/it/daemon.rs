//! The running daemon: its looks, readiness, metrics, reload and stop.

use crate::support::daemon::Daemon;
use crate::support::{Setup, log_lines, names};
use fastrand::Rng;
use nix::sys::signal::Signal;
use std::os::unix::fs::symlink;
use trial::{tell, wait_until};

const QUICK: [&str; 3] = ["--admin=127.0.0.1:0", "--interval=20ms", "--publish-within=20ms"];

#[test]
fn new_and_last_lines_are_archived() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "first\n");
    let daemon = Daemon::start(&setup, &QUICK);
    daemon.wait_until_ready();
    assert_eq!(setup.members()[&b"x.log"[..]], b"first\n");
    setup.append("x.log", "second\n");
    wait_until("the second line", || setup.members()[&b"x.log"[..]].ends_with(b"second\n"));
    // The next look is an hour away: only the stop can archive the last line.
    drop(daemon);
    let daemon = Daemon::start(&setup, &["--admin=127.0.0.1:0", "--interval=1h"]);
    daemon.wait_until_ready();
    setup.append("x.log", "last\n");
    let (status, _) = daemon.stop();
    assert!(status.success());
    assert!(setup.members()[&b"x.log"[..]].ends_with(b"last\n"));
    assert!(setup.leftovers().is_empty());
}

#[test]
fn idle_directory_is_not_scanned() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "first\n");
    let daemon = Daemon::start(&setup, &QUICK);
    let looks = || {
        let page = daemon.get("/metrics").1;
        let lines = page.lines().filter(|line| line.starts_with("logcd_cycles_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    daemon.wait_until_ready();
    let idle = || daemon.metric("logcd_idle_ticks_total");
    wait_until("the first idle tick", || idle() > 0.0);
    let (before, ticks) = (looks(), idle());
    wait_until("fifty more", || idle() >= ticks + 50.0);
    assert_eq!(looks(), before);
    setup.append("x.log", "second\n");
    wait_until("the second line", || setup.members()[&b"x.log"[..]].ends_with(b"second\n"));
}

#[test]
fn news_is_published_within_one_interval() {
    let setup = Setup::new(&[]);
    setup.write("x.log", log_lines(&mut Rng::with_seed(1), 1_000_000));
    let daemon =
        Daemon::start(&setup, &["--admin=127.0.0.1:0", "--interval=300ms", "--publish-within=300ms"]);
    daemon.wait_until_ready();
    let published = || daemon.metric("logcd_cycles_total{result=\"published\"}");
    for _ in 0..5 {
        let before = published();
        setup.append("x.log", "little\n");
        wait_until("the next archive", || published() > before);
    }
    assert_eq!(daemon.metric("logcd_cycles_total{result=\"waiting\"}"), 0.0);
}

#[test]
fn little_news_waits() {
    let setup = Setup::new(&[]);
    setup.write("x.log", log_lines(&mut Rng::with_seed(1), 100_000));
    let flags = ["--admin=127.0.0.1:0", "--interval=20ms", "--publish-within=1h", "--publish-percent=10"];
    let daemon = Daemon::start(&setup, &flags);
    daemon.wait_until_ready();
    setup.append("x.log", "little\n");
    wait_until("a cycle that lets it wait", || daemon.metric("logcd_cycles_total{result=\"waiting\"}") > 0.0);
    assert_eq!(daemon.metric("logcd_waiting_bytes"), 7.0);
    assert!(!setup.members()[&b"x.log"[..]].ends_with(b"little\n"));
    // Written in one step: after a look that finds only a part, the rest would wait.
    setup.write("y.part", log_lines(&mut Rng::with_seed(2), 20_000));
    std::fs::rename(setup.log("y.part"), setup.log("y.log")).unwrap();
    wait_until("what is worth it", || setup.members() == setup.logs());
}

#[test]
fn every_metric_is_exercised_and_documented() {
    let setup = Setup::new(&["--keep-days=1", "--poll=500ms"]);
    let file = setup.root.path().join("logcd.toml");
    std::fs::write(&file, "").unwrap();
    std::fs::write(setup.out().join("all-logs-2020-01-01.tar.gz"), "old").unwrap();
    let mut rng = Rng::with_seed(1);
    setup.write("x.log", log_lines(&mut rng, 100_000));
    setup.write("y.log", "to be deleted\n");
    symlink("x.log", setup.log("link.log")).unwrap();
    let config = format!("--config={}", file.display());
    let daemon = Daemon::start(&setup, &[&QUICK[..], &[&config]].concat());
    let moved = |name: &str| wait_until(name, || daemon.metric(name) > 0.0);
    daemon.wait_until_ready();
    setup.append("x.log", log_lines(&mut rng, 100));
    moved("logcd_copied_bytes_total");
    std::fs::remove_file(setup.log("y.log")).unwrap();
    moved("logcd_superseded_total");
    for name in [
        "logcd_cycles_total{result=\"published\"}",
        "logcd_cycle_seconds_total",
        "logcd_idle_ticks_total",
        "logcd_compressed_bytes_total",
        "logcd_written_bytes_total",
        "logcd_archives_removed_total",
        "logcd_skipped_files{reason=\"symlink\"}",
        "logcd_archive_bytes",
        "logcd_content_bytes",
        "logcd_published_timestamp_seconds",
    ] {
        moved(name);
    }
    setup.write("z.log", "new\n");
    moved("logcd_files");
    // A touched file is read and found unchanged.
    moved("logcd_cycles_total{result=\"unchanged\"}");
    // Only now, because the steps above need their logs for as long as a busy machine takes.
    std::fs::write(&file, "remove-after = \"1s\"\n").unwrap();
    moved("logcd_sources_removed_total");
    // `waiting` and `disk_full` are tested by little_news_waits and in disk.rs.
    let page = daemon.get("/metrics").1;
    let readme = include_str!("../../README.md");
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE logcd_")) {
        let name = line.split(' ').next().unwrap();
        assert!(readme.contains(&format!("`{name}")), "{name} is not documented in README.md");
    }
}

#[test]
fn second_daemon_waits_for_the_lock() {
    let setup = Setup::new(&[]);
    let first = Daemon::start(&setup, &QUICK);
    first.wait_until_ready();
    let second = Daemon::start(&setup, &QUICK);
    let holder = trial::holder(first.pid().as_raw().unsigned_abs());
    let why = format!("another logcd {holder} uses {}; only one may", setup.out().display());
    wait_until("the second to say why it waits", || second.get("/ready").1.contains(&why));
    assert_eq!(second.get("/live").0, 200);
    assert!(first.stop().0.success());
    second.wait_until_ready();
}

#[test]
fn changed_settings_are_applied() {
    let setup = Setup::new(&[]);
    let file = setup.root.path().join("logcd.toml");
    std::fs::write(&file, "include = [\"*.log\"]\n").unwrap();
    setup.write("x.log", "line\n");
    setup.write("x.txt", "text\n");
    let config = format!("--config={}", file.display());
    let daemon = Daemon::start(&setup, &[&QUICK[..], &[&config]].concat());
    daemon.wait_until_ready();
    assert_eq!(names(&setup.members()), ["x.log"]);
    std::fs::write(&file, "include = [\"*.log\", \"*.txt\"]\n").unwrap();
    wait_until("the new pattern", || names(&setup.members()) == ["x.log", "x.txt"]);
    std::fs::write(&file, "includes = 1\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("settings_rejected");
    setup.append("x.txt", "more\n");
    wait_until("it to go on with the old settings", || setup.members()[&b"x.txt"[..]].ends_with(b"more\n"));
    let (_, said) = daemon.stop();
    assert!(said.contains("unknown key `includes`"), "{said}");
}

#[test]
fn missing_log_directory_is_reported() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    let daemon = Daemon::start(&setup, &QUICK);
    daemon.wait_until_ready();
    let (log, away) = (setup.root.path().join("log"), setup.root.path().join("away"));
    std::fs::rename(&log, &away).unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the reason", || daemon.get("/ready").1.contains("cannot open the log directory"));
    assert!(daemon.metric("logcd_cycles_total{result=\"failed\"}") > 0.0);
    std::fs::rename(&away, &log).unwrap();
    daemon.wait_until_ready();
}

#[test]
fn logs_in_archives_need_the_page_token_too() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let setup = Setup::new(&[]);
    setup.write("x.log", "first\n");
    let token = setup.root.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let daemon = Daemon::start(&setup, &[&QUICK[..], &["--page-token", token.to_str().unwrap()]].concat());
    daemon.wait_until_ready();
    let archive = setup.archive();
    let path = format!("/page/log?archive={}&entry=0", archive.file_name().unwrap().to_str().unwrap());
    let asked = |token| tell(daemon.address, "GET", &path, token, b"");
    assert_eq!(asked("").status, 401);
    let answer = asked(TOKEN);
    assert_eq!((answer.status, answer.text()), (200, "first\n"));
}
