//! More than one directory with logs, in one archive.

use crate::support::daemon::Daemon;
use crate::support::{Fixture, NOON, at, cycle, index_of, log_lines, run};
use fastrand::Rng;
use kit::disk::free_space::MinFree;
use logcd::config::{ArchiveLimits, Config};
use logcd::cycle::archiver::{Archiver, CycleMode};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use trial::wait_until;

const QUICK: [&str; 3] = ["--admin=127.0.0.1:0", "--interval=20ms", "--publish-within=20ms"];

/// Makes a fixture without a prefix, for these directories.
fn fixture(dirs: &[&str], flags: &[&str]) -> Fixture {
    let mut fixture = Fixture::new(&[]);
    for dir in ["log", "lib"] {
        fs::create_dir_all(fixture.root.path().join(dir)).unwrap();
    }
    select(&mut fixture, dirs, flags);
    fixture
}

/// Changes the flags and keeps the files.
fn select(fixture: &mut Fixture, dirs: &[&str], flags: &[&str]) {
    let root = fixture.root.path().canonicalize().unwrap();
    fixture.flags = vec!["--utc".into(), "--out".into(), root.join("out").into()];
    for dir in dirs {
        fixture.flags.extend(["--dir".into(), root.join(dir).into()]);
    }
    fixture.flags.extend(flags.iter().map(Into::into));
}

fn write(fixture: &Fixture, path: &str, content: impl AsRef<[u8]>) {
    fs::write(fixture.root.path().join(path), content).unwrap();
}

/// Returns the archive's files: paths below the fixture's root, and contents.
fn unpacked(fixture: &Fixture) -> BTreeMap<String, Vec<u8>> {
    let root = fixture.root.path().canonicalize().unwrap();
    let root = root.strip_prefix("/").unwrap();
    let listed = String::from_utf8(run(Command::new("tar").arg("-tzf").arg(fixture.archive()))).unwrap();
    let content = |path: &str| run(Command::new("tar").arg("-xzOf").arg(fixture.archive()).arg(path));
    let below = |path: &str| PathBuf::from(path).strip_prefix(root).unwrap().display().to_string();
    listed.lines().map(|path| (below(path), content(path))).collect()
}

fn names(fixture: &Fixture) -> Vec<String> {
    unpacked(fixture).into_keys().collect()
}

fn verify(fixture: &Fixture) {
    run(fixture.reader().arg("verify").arg(fixture.archive()));
}

#[test]
fn files_of_one_name_keep_their_own_paths() {
    let fixture = fixture(&["log", "lib"], &[]);
    write(&fixture, "log/x.log", "of log\n");
    write(&fixture, "lib/x.log", "of lib\n");
    fixture.cycle();
    let held = unpacked(&fixture);
    assert_eq!(
        held.into_iter().collect::<Vec<_>>(),
        [("lib/x.log".to_owned(), b"of lib\n".to_vec()), ("log/x.log".to_owned(), b"of log\n".to_vec()),]
    );
    verify(&fixture);
    let cat = |name: &str| run(fixture.reader().arg("cat").arg(fixture.archive()).arg(name));
    assert_eq!((cat("lib/x.log"), cat("log/x.log")), (b"of lib\n".to_vec(), b"of log\n".to_vec()));
}

#[test]
fn directory_given_twice_counts_once() {
    let fixture = fixture(&["log", "lib", "lib/../log"], &[]);
    write(&fixture, "log/x.log", "line\n");
    assert_eq!(fixture.cycle().files, 1);
    assert_eq!(names(&fixture), ["log/x.log"]);
}

#[test]
fn changed_directories_lose_nothing() {
    let mut fixture = fixture(&["log"], &[]);
    write(&fixture, "log/x.log", log_lines(&mut Rng::with_seed(1), 400_000));
    write(&fixture, "lib/y.log", log_lines(&mut Rng::with_seed(2), 400_000));
    write(&fixture, "log/gone.log", "deleted\n");
    let mut archiver = fixture.archiver();
    cycle(&mut archiver);
    fs::remove_file(fixture.root.path().join("log/gone.log")).unwrap();
    cycle(&mut archiver);
    drop(archiver);
    let gone = "log/gone.log.20261121T120000";
    for dirs in [&["log", "lib"][..], &["lib", "log"], &["log", "lib"]] {
        select(&mut fixture, dirs, &[]);
        fixture.cycle();
        assert_eq!(names(&fixture), ["lib/y.log", gone, "log/x.log"], "{dirs:?}");
        verify(&fixture);
        assert_eq!(fixture.cycle().published.map_or(0, |published| published.compressed), 0, "{dirs:?}");
    }
}

#[test]
fn lost_index_of_two_directories_is_rebuilt() {
    let fixture = fixture(&["log", "lib"], &[]);
    write(&fixture, "log/x.log", "of log\n");
    write(&fixture, "lib/x.log", "of lib\n");
    fixture.cycle();
    let before = unpacked(&fixture);
    fs::remove_file(index_of(&fixture.archive())).unwrap();
    fixture.cycle();
    assert_eq!(unpacked(&fixture), before);
    verify(&fixture);
}

#[test]
fn missing_further_directory_is_awaited() {
    let fixture = fixture(&["log", "later"], &[]);
    write(&fixture, "log/x.log", "of log\n");
    let daemon = Daemon::start(&fixture, &QUICK);
    daemon.wait_until_ready();
    assert_eq!(daemon.metric("logcd_empty_directories"), 1.0);
    // systemd makes a service's log directory like this: as a link to a private one.
    write(&fixture, "lib/y.log", "of lib\n");
    symlink(fixture.root.path().join("lib"), fixture.root.path().join("later")).unwrap();
    wait_until("its log", || names(&fixture) == ["later/y.log", "log/x.log"]);
    // From now on the kernel reports changes of the new directory.
    write(&fixture, "lib/z.log", "more\n");
    wait_until("its next log", || names(&fixture) == ["later/y.log", "later/z.log", "log/x.log"]);
}

#[test]
fn vanished_directory_keeps_its_entries() {
    let fixture = fixture(&["log", "lib"], &[]);
    write(&fixture, "log/x.log", "of log\n");
    write(&fixture, "lib/y.log", "of lib\n");
    let daemon = Daemon::start(&fixture, &QUICK);
    daemon.wait_until_ready();
    let (lib, away) = (fixture.root.path().join("lib"), fixture.root.path().join("away"));
    fs::rename(&lib, &away).unwrap();
    wait_until("the reason", || daemon.get("/ready").1.contains("directory: cannot open the log directory"));
    write(&fixture, "log/x.log", "of log, and more\n");
    wait_until("the other directory's log", || unpacked(&fixture)["log/x.log"] == b"of log, and more\n");
    assert_eq!(unpacked(&fixture)["lib/y.log"], b"of lib\n");
    fs::rename(&away, &lib).unwrap();
    daemon.wait_until_ready();
}

/// Rotates like logd between two looks: the log is renamed, compressed and removed.
fn rotate(fixture: &Fixture, last: &str) {
    let log = fixture.root.path().join("lib/node_log");
    let rotated = fixture.root.path().join("lib/node_log.000001-20261121T120000Z");
    fs::OpenOptions::new()
        .append(true)
        .open(&log)
        .map(|mut log| std::io::Write::write_all(&mut log, last.as_bytes()))
        .unwrap()
        .unwrap();
    fs::rename(&log, &rotated).unwrap();
    run(Command::new("gzip").arg(&rotated));
}

#[test]
fn last_lines_before_a_rotation_are_archived() {
    let fixture = fixture(&["log", "lib"], &["--include=*.log,node_log"]);
    let first = log_lines(&mut Rng::with_seed(3), 100_000);
    write(&fixture, "lib/node_log", &first);
    let mut archiver: Archiver = fixture.archiver();
    cycle(&mut archiver);
    rotate(&fixture, "the last line\n");
    write(&fixture, "lib/node_log", "a new file\n");
    cycle(&mut archiver);
    let held = unpacked(&fixture);
    let whole = [&first[..], b"the last line\n"].concat();
    assert_eq!(held.keys().collect::<Vec<_>>(), ["lib/node_log", "lib/node_log.20261121T120000"]);
    assert!(held["lib/node_log.20261121T120000"] == whole, "its end is there, though it was compressed away");
    assert_eq!(held["lib/node_log"], b"a new file\n");
}

#[test]
fn last_lines_before_a_deletion_are_archived() {
    let fixture = fixture(&["log"], &[]);
    write(&fixture, "log/x.log", "first\n");
    let mut archiver = fixture.archiver();
    cycle(&mut archiver);
    write(&fixture, "log/x.log", "first\nlast\n");
    fs::remove_file(fixture.root.path().join("log/x.log")).unwrap();
    cycle(&mut archiver);
    assert_eq!(unpacked(&fixture)["log/x.log.20261121T120000"], b"first\nlast\n");
    assert_eq!(
        open_logs(&fixture),
        0,
        "a deleted log is closed once it is archived, so that it takes no disk space"
    );
}

/// Counts the logs that this process holds open.
fn open_logs(fixture: &Fixture) -> usize {
    let logs = fixture.root.path().canonicalize().unwrap().join("log");
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    open.filter(|file| file.starts_with(&logs)).count()
}

#[test]
fn open_logs_are_bounded() {
    let fixture = fixture(&["log"], &[]);
    let mut archiver = fixture.archiver();
    for round in 0..3 {
        for number in 0..200 {
            write(&fixture, &format!("log/{round}-{number}.log"), "line\n");
        }
        cycle(&mut archiver);
    }
    assert_eq!(open_logs(&fixture), 256);
}

#[test]
fn full_disk_closes_deleted_logs() {
    let fixture = fixture(&["log"], &[]);
    write(&fixture, "log/x.log", "line\n");
    let mut archiver = fixture.archiver();
    cycle(&mut archiver);
    assert_eq!(open_logs(&fixture), 1);
    archiver.configure(Config {
        limits: ArchiveLimits { min_free: MinFree::Bytes(u64::MAX), ..fixture.config().limits },
        ..fixture.config()
    });
    fs::remove_file(fixture.root.path().join("log/x.log")).unwrap();
    let error = archiver.cycle(at(NOON), CycleMode::Now).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(open_logs(&fixture), 0);
}
