//! A real file system of 2 MiB that fills.

use crate::client;
use crate::daemon::Setup;
use crate::marked_lines::MarkedLines;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use trial::wait_until;

const NO_SPACE: &str = "No space left on device";
const TORRENT: MarkedLines = MarkedLines { connections: 20, lines: 2_000 };

/// Unmounts when the test is over, even if the daemon is still running there.
struct Mounted(String);

impl Mounted {
    fn new(setup: &Setup) -> Mounted {
        let target = setup.path("").to_str().unwrap().to_owned();
        run("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs", &target]);
        Mounted(target)
    }

    fn grow(&self) {
        run("mount", &["-o", "remount,size=64m", &self.0]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?} failed; are you root?");
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["--lazy", &self.0]);
    }
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn a_full_disk_holds_senders_back_until_there_is_room() {
    let setup = Setup::new().arguments(&["--rotate-bytes", "0"]);
    let disk = Mounted::new(&setup);
    let logd = setup.start();
    let receipts = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            TORRENT.send(logd.address());
            receipts.store(true, Ordering::Relaxed);
        });
        wait_until("it says that the disk is full", || logd.cannot_write(NO_SPACE));
        wait_until("the file ends with a whole line", || logd.file().ends_with(b"\n"));
        assert!(!receipts.load(Ordering::Relaxed));
        disk.grow();
    });
    assert_eq!(logd.ready().0, 200);
    TORRENT.check(&logd.files(), <[u8]>::to_vec);
    drop(disk);
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn start_on_a_full_disk_recovers() {
    let setup = Setup::new();
    let disk = Mounted::new(&setup);
    let filler = setup.path("filler");
    std::fs::write(&filler, vec![0; 4 << 20]).expect_err("it is full");
    let logd = setup.start();
    std::fs::remove_file(filler).unwrap();
    client::send(logd.address(), b"line\n").unwrap();
    assert_eq!(logd.file(), b"line\n");
    drop(disk);
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn rotated_files_make_room_by_themselves() {
    let setup = Setup::new().arguments(&["--rotate-bytes", "200KB", "--keep-bytes", "600KB", "--no-gzip"]);
    let disk = Mounted::new(&setup);
    let logd = setup.start();
    for round in 0..100 {
        client::send(logd.address(), &format!("{round:0>99}\n").repeat(1_000).into_bytes()).unwrap();
    }
    assert!(logd.file().ends_with(b"99\n"));
    wait_until("it is ready", || logd.ready().0 == 200);
    drop(disk);
}

#[test]
#[ignore = "needs root, to mount: just test-root"]
fn disk_full_during_rotation_loses_nothing() {
    let setup =
        Setup::new().arguments(&["--rotate-bytes", "300KB", "--keep-files", "0", "--keep-bytes", "0"]);
    let disk = Mounted::new(&setup);
    let mut logd = setup.start();
    std::thread::scope(|scope| {
        scope.spawn(|| TORRENT.send(logd.address()));
        wait_until("it says that the disk is full", || logd.cannot_write(NO_SPACE));
        disk.grow();
    });
    // A file that could not be compressed is compressed with the next rotation or start.
    assert_eq!(logd.terminate().code(), Some(0));
    logd.restart();
    wait_until("all rotated files are compressed", || {
        logd.files().iter().rev().skip(1).all(|path| path.extension().is_some_and(|e| e == "gz"))
    });
    TORRENT.check(&logd.files(), <[u8]>::to_vec);
    drop(disk);
}
