//! A full disk: the old archive stays, no partial file is left, and logcd recovers by itself. A file-size
//! limit stands in for the disk; root_filesystems.rs has a real one.

use crate::support::daemon::Daemon;
use crate::support::{Setup, log_lines};
use fastrand::Rng;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use trial::wait_until;

const QUICK: [&str; 3] = ["--admin=127.0.0.1:0", "--interval=20ms", "--publish-within=20ms"];

#[test]
fn full_disk_leaves_the_archive_intact() {
    let setup = Setup::new(&[]);
    let mut rng = Rng::with_seed(1);
    setup.write("x.log", log_lines(&mut rng, 100_000));
    setup.once();
    let before = std::fs::read(setup.archive()).unwrap();
    let mut command = Command::new("sh");
    // 64 blocks of 512 bytes: the present archive fits, the next one does not.
    command.args(["-c", "ulimit -S -f 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_logcd")]);
    command.args(&setup.flags).args(QUICK).env("LOGCD_MIN_FREE", "1");
    let daemon = Daemon::run(command);
    daemon.wait_until_ready();
    // Written in one step: a look that finds only the first part could still publish that.
    setup.write("y.part", log_lines(&mut rng, 900_000));
    std::fs::rename(setup.log("y.part"), setup.log("y.log")).unwrap();
    wait_until("the reason", || daemon.get("/ready").1.contains("disk: no room for an archive on"));
    assert_eq!(daemon.get("/live").0, 200);
    assert!(daemon.metric("logcd_cycles_total{result=\"disk_full\"}") > 0.0);
    assert!(std::fs::read(setup.archive()).unwrap() == before, "the archive is as it was");
    crate::support::run(Command::new("prlimit").args([
        "--fsize=unlimited",
        "--pid",
        &daemon.pid().to_string(),
    ]));
    daemon.wait_until_ready();
    assert!(setup.members() == setup.logs());
    assert!(setup.leftovers().is_empty());
    let (_, said) = daemon.stop();
    let reasons: Vec<&str> = said.lines().filter(|line| line.contains("not_ready")).collect();
    assert!(reasons.len() == 1 && reasons[0].contains("no room"), "one line, not one a cycle: {said}");
}

#[test]
fn start_on_a_full_disk_succeeds_for_systemd() {
    let setup = Setup::new(&["--min-free=1000PB"]);
    setup.write("x.log", "line\n");
    let notices = setup.root.path().join("notices");
    let systemd = UnixDatagram::bind(&notices).unwrap();
    systemd.set_read_timeout(Some(trial::DEADLINE)).unwrap();
    let mut command = setup.command();
    command.args(QUICK).env("NOTIFY_SOCKET", notices);
    let daemon = Daemon::run(command);
    let mut notices = std::iter::repeat_with(|| {
        let mut notice = [0; 4096];
        let length = systemd.recv(&mut notice).expect("READY=1 in time");
        String::from_utf8_lossy(&notice[..length]).into_owned()
    });
    let ready = notices.find(|notice| notice.contains("READY=1")).unwrap();
    assert!(ready.contains("STATUS=disk: no room"), "{ready}");
    assert_eq!(daemon.get("/ready").0, 503);
}

#[test]
fn min_free_is_respected() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    let output = setup.command().args(["--once", "--min-free=1000PB"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("the disk is full") && said.contains("--min-free"), "{said}");
    assert!(setup.archives().is_empty() && setup.leftovers().is_empty());
    assert!(setup.once().status.success());
}

#[test]
fn min_free_takes_a_percentage() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    for (floor, code) in [("0%", Some(0)), ("1000PB", Some(75)), ("100%", Some(64))] {
        setup.append("x.log", "more\n");
        let output = setup.command().args(["--once", "--min-free", floor]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), code, "{floor}: {said}");
    }
}

#[test]
fn finished_days_are_not_removed_in_vain() {
    let setup = Setup::new(&[]);
    setup.write("x.log", "line\n");
    let old = setup.out().join("all-logs-2020-01-01.tar.gz");
    std::fs::write(&old, "old").unwrap();
    let output =
        setup.command().args(["--once", "--keep-days=100000", "--min-free=1000PB"]).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(old.exists());
}

#[test]
fn file_size_limit_is_an_error() {
    let setup = Setup::new(&[]);
    setup.write("x.log", log_lines(&mut Rng::with_seed(1), 900_000));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_logcd"), "--once"]);
    let output = command.args(&setup.flags).env("LOGCD_MIN_FREE", "1").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{:?}: {said}", output.status);
    assert!(setup.archives().is_empty() && setup.leftovers().is_empty());
}
