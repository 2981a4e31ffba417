//! Tests that need root: file systems that fill up, share blocks or are read-only, removed mounts, devices,
//! owners.

use crate::support::{NOON, Setup, at, cycle, log_lines, members, names, run};
use fastrand::Rng;
use logcd::cycle::archiver::CycleMode;
use logcd::logs::skip::Skip;
use nix::sys::statvfs::statvfs;
use std::path::{Path, PathBuf};
use std::process::Command;
use trial::wait_until;

/// A mount, unmounted on drop.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, arguments: &[&str]) -> Mount {
        run(Command::new("mount").args(arguments).arg(at));
        Mount(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_full_disk_keeps_the_old_archive_only() {
    let setup = Setup::new(&[]);
    let _mount = Mount::new(&setup.out(), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    let mut rng = Rng::with_seed(1);
    let mut noise = || -> Vec<u8> { (0..700_000).map(|_| rng.u8(..)).collect() };
    setup.write("a.log", "first\n");
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    let before = std::fs::read(setup.archive()).unwrap();
    // The noise takes five times more than expected: only the write itself fails.
    setup.write("noise.log", noise());
    setup.write("more.log", noise());
    let error = archiver.cycle(at(NOON), CycleMode::Now).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert!(std::fs::read(setup.archive()).unwrap() == before, "the archive is as it was");
    assert!(setup.leftovers().is_empty());
    std::fs::remove_file(setup.log("more.log")).unwrap();
    // A process that another test is just starting holds the draft until its `exec`.
    wait_until("the draft's blocks are free", || statvfs(&setup.out()).unwrap().blocks_available() > 200);
    cycle(&mut archiver);
    assert!(setup.members() == setup.logs(), "it goes on by itself");
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_oldest_days_make_room_above_the_floor() {
    let setup = Setup::new(&["--min-free=50%"]);
    let _mount = Mount::new(&setup.out(), &["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
    let old = |day: u32| setup.out().join(format!("all-logs-2026-11-{day}.tar.gz"));
    for day in [18, 19] {
        std::fs::write(old(day), vec![b'x'; 1_500_000]).unwrap();
    }
    setup.write("a.log", "line\n");
    let outcome = setup.cycle();
    assert_eq!(outcome.removed_archives, 1);
    assert!(!old(18).exists() && old(19).exists(), "the oldest day goes, and no more than is needed");
    assert!(members(&setup.archives()[1]) == setup.logs());
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_reflinks_share_kept_blocks() {
    let setup = Setup::new(&[]);
    let image = setup.root.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    run(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image));
    let _mount = Mount::new(&setup.out(), &["-o", "loop", image.to_str().unwrap()]);
    let mut rng = Rng::with_seed(1);
    for name in ["a.log", "b.log", "c.log"] {
        setup.write(name, log_lines(&mut rng, 20 << 20));
    }
    let mut archiver = setup.archiver();
    cycle(&mut archiver);
    for name in ["a.log", "b.log", "c.log"] {
        setup.append(name, log_lines(&mut rng, 10_000));
    }
    // A second name keeps the first archive's blocks, so that the used space shows the sharing.
    let used = || {
        run(Command::new("sync").arg("-f").arg(setup.out()));
        let vfs = statvfs(&setup.out()).unwrap();
        (vfs.blocks() - vfs.blocks_free()) * vfs.fragment_size()
    };
    std::fs::hard_link(setup.archive(), setup.out().join("first")).unwrap();
    let before = used();
    cycle(&mut archiver);
    let size = std::fs::metadata(setup.archive()).unwrap().len();
    let grown = used() - before;
    assert!(grown < size / 10, "{grown} bytes for an archive of {size}");
    assert!(setup.members() == setup.logs());
    run(setup.reader().arg("verify").arg(setup.archive()));
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_log_directory_may_be_read_only() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    let log = setup.root.path().join("log");
    let _mount = Mount::new(&log, &["--bind", log.to_str().unwrap()]);
    run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&log));
    assert!(std::fs::write(log.join("y.log"), "").is_err(), "the mount is read-only");
    let daemon = crate::support::daemon::Daemon::start(&setup, &["--admin=127.0.0.1:0"]);
    daemon.wait_until_ready();
    assert!(setup.members() == setup.logs());
    let (_, said) = daemon.stop();
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    // Without --out it fails, and names the flag.
    let mut alone = setup.reader();
    let output = alone.arg("--once").arg("--dir").arg(&log).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("--out"), "{said}");
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_directory_removed_below_its_mount_is_reported() {
    for which in ["log", "out"] {
        let setup = Setup::new(&[]);
        setup.write("x.log", "line\n");
        let (mounted, real) = (setup.root.path().join(which), setup.root.path().join("real"));
        std::fs::create_dir(&real).unwrap();
        let _mount = Mount::new(&mounted, &["--bind", real.to_str().unwrap()]);
        let flags = ["--admin=127.0.0.1:0", "--interval=20ms", "--publish-within=20ms"];
        let daemon = crate::support::daemon::Daemon::start(&setup, &flags);
        daemon.wait_until_ready();
        std::fs::remove_dir_all(&real).unwrap();
        wait_until("the reason", || daemon.get("/ready").1.contains("delete the pod"));
    }
}

#[test]
#[ignore = "needs root, to change owners: just test-root"]
fn root_link_of_another_user_is_no_log_directory() {
    let setup = Setup::new(&[]);
    let root = setup.root.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("secret")).unwrap();
    std::fs::write(root.join("secret/y.log"), "secret\n").unwrap();
    setup.write("x.log", "line\n");
    let later = root.join("later");
    std::os::unix::fs::symlink(root.join("secret"), &later).unwrap();
    std::os::unix::fs::lchown(&later, Some(65534), None).unwrap();
    let mut command = setup.reader();
    command.arg("--once").arg("--utc").arg("--min-free=1").arg("--out").arg(setup.out());
    let output = command.arg("--dir").arg(root.join("log")).arg("--dir").arg(&later).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("symbolic link of user 65534"), "{said}");
    let held = run(Command::new("tar").arg("-tzf").arg(setup.archive()));
    assert!(!String::from_utf8(held).unwrap().contains("y.log"));
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_device_is_skipped() {
    let setup = Setup::new(&[]);
    setup.write("a.log", "line\n");
    run(Command::new("mknod").arg(setup.log("zero.log")).args(["c", "1", "5"]));
    let outcome = setup.cycle();
    assert_eq!(names(&setup.members()), ["a.log"]);
    assert_eq!(outcome.skipped.get(&b"zero.log"[..]), Some(&Skip::NotAFile));
}
