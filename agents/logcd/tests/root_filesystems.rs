//! What only root can set up: a small file system that really fills up, one with reflinks, a device.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

use logcd::cycle::archivist::Haste;
use logcd::logs::scan::Skip;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Bench, Dice, NOON, at, cycle, names, run};

/// Unmounted when it is dropped.
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
fn root_a_disk_that_fills_up_in_the_middle_of_a_cycle_keeps_the_old_archive_and_nothing_else() {
    let bench = Bench::new(&[]);
    let _mount = Mount::new(&bench.out(), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    let mut dice = Dice::new(1);
    let mut noise = || -> Vec<u8> { (0..700_000).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect() };
    bench.write("a.log", "first\n");
    let mut archivist = bench.archivist();
    cycle(&mut archivist);
    let before = std::fs::read(bench.archive()).unwrap();
    // Five times less is expected of it than it takes: only the write itself finds out.
    bench.write("noise.log", noise());
    bench.write("more.log", noise());
    let error = archivist.cycle(at(NOON), Haste::Now).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert!(std::fs::read(bench.archive()).unwrap() == before, "the archive is as it was");
    assert!(bench.leftovers().is_empty());
    std::fs::remove_file(bench.log("more.log")).unwrap();
    cycle(&mut archivist);
    assert!(bench.members() == bench.logs(), "it goes on by itself");
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_with_reflinks_a_cycle_shares_the_blocks_it_keeps() {
    let bench = Bench::new(&[]);
    let image = bench.root.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    run(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image));
    let _mount = Mount::new(&bench.out(), &["-o", "loop", image.to_str().unwrap()]);
    let mut dice = Dice::new(1);
    for name in ["a.log", "b.log", "c.log"] {
        bench.write(name, dice.lines(20 << 20));
    }
    let mut archivist = bench.archivist();
    cycle(&mut archivist);
    for name in ["a.log", "b.log", "c.log"] {
        bench.append(name, dice.lines(10_000));
    }
    // A second name keeps the first archive's blocks, so that sharing shows in what is used.
    let used = || {
        run(Command::new("sync").arg("-f").arg(bench.out()));
        let vfs = nix::sys::statvfs::statvfs(&bench.out()).unwrap();
        (vfs.blocks() - vfs.blocks_free()) * vfs.fragment_size()
    };
    std::fs::hard_link(bench.archive(), bench.out().join("first")).unwrap();
    let before = used();
    cycle(&mut archivist);
    let size = std::fs::metadata(bench.archive()).unwrap().len();
    let grown = used() - before;
    assert!(grown < size / 10, "{grown} bytes for an archive of {size}");
    assert!(bench.members() == bench.logs());
    run(bench.reader().arg("verify").arg(bench.archive()));
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn root_a_device_is_passed_over() {
    let bench = Bench::new(&[]);
    bench.write("a.log", "line\n");
    run(Command::new("mknod").arg(bench.log("zero.log")).args(["c", "1", "5"]));
    let outcome = bench.cycle();
    assert_eq!(names(&bench.members()), ["a.log"]);
    assert_eq!(outcome.skipped.get(&b"zero.log"[..]), Some(&Skip::NotAFile));
}
