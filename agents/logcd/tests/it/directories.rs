//! More than one directory with logs, in one archive.

use crate::support::daemon::Daemon;
use crate::support::{Bench, NOON, at, cycle, index_of, log_lines, run};
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

/// Makes a bench without a prefix, for these directories.
fn bench(dirs: &[&str], flags: &[&str]) -> Bench {
    let mut bench = Bench::new(&[]);
    for dir in ["log", "lib"] {
        fs::create_dir_all(bench.root.path().join(dir)).unwrap();
    }
    select(&mut bench, dirs, flags);
    bench
}

/// Changes the flags and keeps the files.
fn select(bench: &mut Bench, dirs: &[&str], flags: &[&str]) {
    let root = bench.root.path().canonicalize().unwrap();
    bench.flags = vec!["--utc".into(), "--out".into(), root.join("out").into()];
    for dir in dirs {
        bench.flags.extend(["--dir".into(), root.join(dir).into()]);
    }
    bench.flags.extend(flags.iter().map(Into::into));
}

fn write(bench: &Bench, path: &str, content: impl AsRef<[u8]>) {
    fs::write(bench.root.path().join(path), content).unwrap();
}

/// Returns the archive's files: paths below the bench's root, and contents.
fn unpacked(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    let root = bench.root.path().canonicalize().unwrap();
    let root = root.strip_prefix("/").unwrap();
    let listed = String::from_utf8(run(Command::new("tar").arg("-tzf").arg(bench.archive()))).unwrap();
    let content = |path: &str| run(Command::new("tar").arg("-xzOf").arg(bench.archive()).arg(path));
    let below = |path: &str| PathBuf::from(path).strip_prefix(root).unwrap().display().to_string();
    listed.lines().map(|path| (below(path), content(path))).collect()
}

fn names(bench: &Bench) -> Vec<String> {
    unpacked(bench).into_keys().collect()
}

fn verify(bench: &Bench) {
    run(bench.reader().arg("verify").arg(bench.archive()));
}

#[test]
fn files_of_one_name_keep_their_own_paths() {
    let bench = bench(&["log", "lib"], &[]);
    write(&bench, "log/x.log", "of log\n");
    write(&bench, "lib/x.log", "of lib\n");
    bench.cycle();
    let held = unpacked(&bench);
    assert_eq!(
        held.into_iter().collect::<Vec<_>>(),
        [("lib/x.log".to_owned(), b"of lib\n".to_vec()), ("log/x.log".to_owned(), b"of log\n".to_vec()),]
    );
    verify(&bench);
    let cat = |name: &str| run(bench.reader().arg("cat").arg(bench.archive()).arg(name));
    assert_eq!((cat("lib/x.log"), cat("log/x.log")), (b"of lib\n".to_vec(), b"of log\n".to_vec()));
}

#[test]
fn directory_given_twice_counts_once() {
    let bench = bench(&["log", "lib", "lib/../log"], &[]);
    write(&bench, "log/x.log", "line\n");
    assert_eq!(bench.cycle().files, 1);
    assert_eq!(names(&bench), ["log/x.log"]);
}

#[test]
fn changed_directories_lose_nothing() {
    let mut bench = bench(&["log"], &[]);
    write(&bench, "log/x.log", log_lines(&mut Rng::with_seed(1), 400_000));
    write(&bench, "lib/y.log", log_lines(&mut Rng::with_seed(2), 400_000));
    write(&bench, "log/gone.log", "deleted\n");
    let mut archiver = bench.archiver();
    cycle(&mut archiver);
    fs::remove_file(bench.root.path().join("log/gone.log")).unwrap();
    cycle(&mut archiver);
    drop(archiver);
    let gone = "log/gone.log.20261121T120000";
    for dirs in [&["log", "lib"][..], &["lib", "log"], &["log", "lib"]] {
        select(&mut bench, dirs, &[]);
        bench.cycle();
        assert_eq!(names(&bench), ["lib/y.log", gone, "log/x.log"], "{dirs:?}");
        verify(&bench);
        assert_eq!(bench.cycle().published.map_or(0, |published| published.compressed), 0, "{dirs:?}");
    }
}

#[test]
fn lost_index_of_two_directories_is_rebuilt() {
    let bench = bench(&["log", "lib"], &[]);
    write(&bench, "log/x.log", "of log\n");
    write(&bench, "lib/x.log", "of lib\n");
    bench.cycle();
    let before = unpacked(&bench);
    fs::remove_file(index_of(&bench.archive())).unwrap();
    bench.cycle();
    assert_eq!(unpacked(&bench), before);
    verify(&bench);
}

#[test]
fn missing_further_directory_is_awaited() {
    let bench = bench(&["log", "later"], &[]);
    write(&bench, "log/x.log", "of log\n");
    let daemon = Daemon::start(&bench, &QUICK);
    daemon.wait_until_ready();
    assert_eq!(daemon.metric("logcd_empty_directories"), 1.0);
    // systemd makes a service's log directory like this: as a link to a private one.
    write(&bench, "lib/y.log", "of lib\n");
    symlink(bench.root.path().join("lib"), bench.root.path().join("later")).unwrap();
    wait_until("its log", || names(&bench) == ["later/y.log", "log/x.log"]);
    // From now on the kernel reports changes of the new directory.
    write(&bench, "lib/z.log", "more\n");
    wait_until("its next log", || names(&bench) == ["later/y.log", "later/z.log", "log/x.log"]);
}

#[test]
fn vanished_directory_keeps_its_entries() {
    let bench = bench(&["log", "lib"], &[]);
    write(&bench, "log/x.log", "of log\n");
    write(&bench, "lib/y.log", "of lib\n");
    let daemon = Daemon::start(&bench, &QUICK);
    daemon.wait_until_ready();
    let (lib, away) = (bench.root.path().join("lib"), bench.root.path().join("away"));
    fs::rename(&lib, &away).unwrap();
    wait_until("the reason", || daemon.get("/ready").1.contains("directory: cannot open the log directory"));
    write(&bench, "log/x.log", "of log, and more\n");
    wait_until("the other directory's log", || unpacked(&bench)["log/x.log"] == b"of log, and more\n");
    assert_eq!(unpacked(&bench)["lib/y.log"], b"of lib\n");
    fs::rename(&away, &lib).unwrap();
    daemon.wait_until_ready();
}

/// Rotates like logd between two looks: the log is renamed, compressed and removed.
fn rotate(bench: &Bench, last: &str) {
    let log = bench.root.path().join("lib/node_log");
    let rotated = bench.root.path().join("lib/node_log.000001-20261121T120000Z");
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
    let bench = bench(&["log", "lib"], &["--include=*.log,node_log"]);
    let first = log_lines(&mut Rng::with_seed(3), 100_000);
    write(&bench, "lib/node_log", &first);
    let mut archiver: Archiver = bench.archiver();
    cycle(&mut archiver);
    rotate(&bench, "the last line\n");
    write(&bench, "lib/node_log", "a new file\n");
    cycle(&mut archiver);
    let held = unpacked(&bench);
    let whole = [&first[..], b"the last line\n"].concat();
    assert_eq!(held.keys().collect::<Vec<_>>(), ["lib/node_log", "lib/node_log.20261121T120000"]);
    assert!(held["lib/node_log.20261121T120000"] == whole, "its end is there, though it was compressed away");
    assert_eq!(held["lib/node_log"], b"a new file\n");
}

#[test]
fn last_lines_before_a_deletion_are_archived() {
    let bench = bench(&["log"], &[]);
    write(&bench, "log/x.log", "first\n");
    let mut archiver = bench.archiver();
    cycle(&mut archiver);
    write(&bench, "log/x.log", "first\nlast\n");
    fs::remove_file(bench.root.path().join("log/x.log")).unwrap();
    cycle(&mut archiver);
    assert_eq!(unpacked(&bench)["log/x.log.20261121T120000"], b"first\nlast\n");
    assert_eq!(
        open_logs(&bench),
        0,
        "a deleted log is closed once it is archived, so that it takes no disk space"
    );
}

/// Counts the logs that this process holds open.
fn open_logs(bench: &Bench) -> usize {
    let logs = bench.root.path().canonicalize().unwrap().join("log");
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    open.filter(|file| file.starts_with(&logs)).count()
}

#[test]
fn open_logs_are_bounded() {
    let bench = bench(&["log"], &[]);
    let mut archiver = bench.archiver();
    for round in 0..3 {
        for number in 0..200 {
            write(&bench, &format!("log/{round}-{number}.log"), "line\n");
        }
        cycle(&mut archiver);
    }
    assert_eq!(open_logs(&bench), 256);
}

#[test]
fn full_disk_closes_deleted_logs() {
    let bench = bench(&["log"], &[]);
    write(&bench, "log/x.log", "line\n");
    let mut archiver = bench.archiver();
    cycle(&mut archiver);
    assert_eq!(open_logs(&bench), 1);
    archiver.configure(Config {
        limits: ArchiveLimits { min_free: MinFree::Bytes(u64::MAX), ..bench.config().limits },
        ..bench.config()
    });
    fs::remove_file(bench.root.path().join("log/x.log")).unwrap();
    let error = archiver.cycle(at(NOON), CycleMode::Now).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(open_logs(&bench), 0);
}
