//! More than one directory with logs, in one archive.

use crate::support::daemon::Daemon;
use crate::support::{NOON, Setup, at, cycle, index_of, log_lines, run};
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

/// Makes a setup without a prefix, for these directories.
fn setup(dirs: &[&str], flags: &[&str]) -> Setup {
    let mut setup = Setup::new(&[]);
    for dir in ["log", "lib"] {
        fs::create_dir_all(setup.root.path().join(dir)).unwrap();
    }
    select(&mut setup, dirs, flags);
    setup
}

/// Changes the flags and keeps the files.
fn select(setup: &mut Setup, dirs: &[&str], flags: &[&str]) {
    let root = setup.root.path().canonicalize().unwrap();
    setup.flags = vec!["--utc".into(), "--out".into(), root.join("out").into()];
    for dir in dirs {
        setup.flags.extend(["--dir".into(), root.join(dir).into()]);
    }
    setup.flags.extend(flags.iter().map(Into::into));
}

fn write(setup: &Setup, path: &str, content: impl AsRef<[u8]>) {
    fs::write(setup.root.path().join(path), content).unwrap();
}

/// Returns the archive's files: paths below the setup's root, and contents.
fn unpacked(setup: &Setup) -> BTreeMap<String, Vec<u8>> {
    let root = setup.root.path().canonicalize().unwrap();
    let root = root.strip_prefix("/").unwrap();
    let listed = String::from_utf8(run(Command::new("tar").arg("-tzf").arg(setup.archive()))).unwrap();
    let content = |path: &str| run(Command::new("tar").arg("-xzOf").arg(setup.archive()).arg(path));
    let below = |path: &str| PathBuf::from(path).strip_prefix(root).unwrap().display().to_string();
    listed.lines().map(|path| (below(path), content(path))).collect()
}

fn names(setup: &Setup) -> Vec<String> {
    unpacked(setup).into_keys().collect()
}

fn verify(setup: &Setup) {
    run(setup.reader().arg("verify").arg(setup.archive()));
}

#[test]
fn files_of_one_name_keep_their_own_paths() {
    let setup = setup(&["log", "lib"], &[]);
    write(&setup, "log/x.log", "of log\n");
    write(&setup, "lib/x.log", "of lib\n");
    setup.cycle();
    let held = unpacked(&setup);
    assert_eq!(
        held.into_iter().collect::<Vec<_>>(),
        [("lib/x.log".to_owned(), b"of lib\n".to_vec()), ("log/x.log".to_owned(), b"of log\n".to_vec()),]
    );
    verify(&setup);
    let cat = |name: &str| run(setup.reader().arg("cat").arg(setup.archive()).arg(name));
    assert_eq!((cat("lib/x.log"), cat("log/x.log")), (b"of lib\n".to_vec(), b"of log\n".to_vec()));
}

#[test]
fn directory_given_twice_counts_once() {
    let setup = setup(&["log", "lib", "lib/../log"], &[]);
    write(&setup, "log/x.log", "line\n");
    assert_eq!(setup.cycle().files, 1);
    assert_eq!(names(&setup), ["log/x.log"]);
}

#[test]
fn changed_directories_lose_nothing() {
    let mut setup = setup(&["log"], &[]);
    write(&setup, "log/x.log", log_lines(&mut Rng::with_seed(1), 400_000));
    write(&setup, "lib/y.log", log_lines(&mut Rng::with_seed(2), 400_000));
    write(&setup, "log/gone.log", "deleted\n");
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    fs::remove_file(setup.root.path().join("log/gone.log")).unwrap();
    cycle(&mut archiver);
    drop(archiver);
    let gone = "log/gone.log.20261121T120000";
    for dirs in [&["log", "lib"][..], &["lib", "log"], &["log", "lib"]] {
        select(&mut setup, dirs, &[]);
        setup.cycle();
        assert_eq!(names(&setup), ["lib/y.log", gone, "log/x.log"], "{dirs:?}");
        verify(&setup);
        assert_eq!(setup.cycle().published.map_or(0, |published| published.compressed), 0, "{dirs:?}");
    }
}

#[test]
fn lost_index_of_two_directories_is_rebuilt() {
    let setup = setup(&["log", "lib"], &[]);
    write(&setup, "log/x.log", "of log\n");
    write(&setup, "lib/x.log", "of lib\n");
    setup.cycle();
    let before = unpacked(&setup);
    fs::remove_file(index_of(&setup.archive())).unwrap();
    setup.cycle();
    assert_eq!(unpacked(&setup), before);
    verify(&setup);
}

#[test]
fn missing_further_directory_is_awaited() {
    let setup = setup(&["log", "later"], &[]);
    write(&setup, "log/x.log", "of log\n");
    let daemon = Daemon::start(&setup, &QUICK);
    daemon.wait_until_ready();
    assert_eq!(daemon.metric("logcd_empty_directories"), 1.0);
    // systemd makes a service's log directory like this: as a link to a private one.
    write(&setup, "lib/y.log", "of lib\n");
    symlink(setup.root.path().join("lib"), setup.root.path().join("later")).unwrap();
    wait_until("its log", || names(&setup) == ["later/y.log", "log/x.log"]);
    // From now on the kernel reports changes of the new directory.
    write(&setup, "lib/z.log", "more\n");
    wait_until("its next log", || names(&setup) == ["later/y.log", "later/z.log", "log/x.log"]);
}

#[test]
fn vanished_directory_keeps_its_entries() {
    let setup = setup(&["log", "lib"], &[]);
    write(&setup, "log/x.log", "of log\n");
    write(&setup, "lib/y.log", "of lib\n");
    let daemon = Daemon::start(&setup, &QUICK);
    daemon.wait_until_ready();
    let (lib, away) = (setup.root.path().join("lib"), setup.root.path().join("away"));
    fs::rename(&lib, &away).unwrap();
    wait_until("the reason", || daemon.get("/ready").1.contains("directory: cannot open the log directory"));
    write(&setup, "log/x.log", "of log, and more\n");
    wait_until("the other directory's log", || unpacked(&setup)["log/x.log"] == b"of log, and more\n");
    assert_eq!(unpacked(&setup)["lib/y.log"], b"of lib\n");
    fs::rename(&away, &lib).unwrap();
    daemon.wait_until_ready();
}

/// Rotates like logd between two looks: the log is renamed, compressed and removed.
fn rotate(setup: &Setup, last: &str) {
    let log = setup.root.path().join("lib/node_log");
    let rotated = setup.root.path().join("lib/node_log.000001-20261121T120000Z");
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
    let setup = setup(&["log", "lib"], &["--include=*.log,node_log"]);
    let first = log_lines(&mut Rng::with_seed(3), 100_000);
    write(&setup, "lib/node_log", &first);
    let mut archiver: Archiver = setup.archiver();
    cycle(&mut archiver);
    rotate(&setup, "the last line\n");
    write(&setup, "lib/node_log", "a new file\n");
    cycle(&mut archiver);
    let held = unpacked(&setup);
    let whole = [&first[..], b"the last line\n"].concat();
    assert_eq!(held.keys().collect::<Vec<_>>(), ["lib/node_log", "lib/node_log.20261121T120000"]);
    assert!(held["lib/node_log.20261121T120000"] == whole, "its end is there, though it was compressed away");
    assert_eq!(held["lib/node_log"], b"a new file\n");
}

#[test]
fn last_lines_before_a_deletion_are_archived() {
    let setup = setup(&["log"], &[]);
    write(&setup, "log/x.log", "first\n");
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    write(&setup, "log/x.log", "first\nlast\n");
    fs::remove_file(setup.root.path().join("log/x.log")).unwrap();
    cycle(&mut archiver);
    assert_eq!(unpacked(&setup)["log/x.log.20261121T120000"], b"first\nlast\n");
    assert_eq!(
        open_logs(&setup),
        0,
        "a deleted log is closed once it is archived, so that it takes no disk space"
    );
}

/// Counts the logs that this process holds open.
fn open_logs(setup: &Setup) -> usize {
    let logs = setup.root.path().canonicalize().unwrap().join("log");
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    open.filter(|file| file.starts_with(&logs)).count()
}

#[test]
fn open_logs_are_bounded() {
    let setup = setup(&["log"], &[]);
    let mut archiver = setup.archiver();
    for round in 0..3 {
        for number in 0..200 {
            write(&setup, &format!("log/{round}-{number}.log"), "line\n");
        }
        cycle(&mut archiver);
    }
    assert_eq!(open_logs(&setup), 256);
}

#[test]
fn full_disk_closes_deleted_logs() {
    let setup = setup(&["log"], &[]);
    write(&setup, "log/x.log", "line\n");
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    assert_eq!(open_logs(&setup), 1);
    archiver.configure(Config {
        limits: ArchiveLimits { min_free: MinFree::Bytes(u64::MAX), ..setup.config().limits },
        ..setup.config()
    });
    fs::remove_file(setup.root.path().join("log/x.log")).unwrap();
    let error = archiver.cycle(at(NOON), CycleMode::Now).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(open_logs(&setup), 0);
}
