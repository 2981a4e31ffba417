//! Every metric is on the page, documented, and really moves.

use crate::client::{self, send};
use crate::daemon::{Logd, Setup};
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use trial::wait_until;

/// Returns the names of the page's samples that are not zero, without labels.
fn moved(logd: &Logd) -> BTreeSet<String> {
    let page = logd.admin("GET", "/metrics").1;
    let samples = page.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// Returns every metric on the page, by the name of its sample.
fn names(logd: &Logd) -> BTreeSet<String> {
    let page = logd.admin("GET", "/metrics").1;
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "histogram" => format!("{name}_count"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect()
}

/// Builds a library that makes syncs fail while a file exists, as a failing disk does.
fn failing_disk(setup: &Setup) {
    setup.write(
        "disk.c",
        "#include <errno.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int fdatasync(int fd) {\n\
           if (access(\"disk_fails\", F_OK) == 0) { errno = EIO; return -1; }\n\
           return syscall(SYS_fdatasync, fd);\n\
         }\n",
    );
    let (source, library) = (setup.path("disk.c"), setup.path("disk.so"));
    // Rust links with `cc`, so it is there.
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(library).arg(source).status();
    assert!(compiled.unwrap().success());
}

#[test]
fn every_metric_moves() {
    let mut seen = BTreeSet::new();

    let setup = Setup::new().arguments(&["--rotate-bytes", "1000", "--keep-files", "1", "--max-line", "500"]);
    setup.write("node_log", "torn");
    let logd = setup.start();
    let mut open = client::connect(logd.address());
    for _ in 0..3 {
        send(logd.address(), &b"x".repeat(600)).unwrap();
    }
    send(logd.address(), b"5 <1>abnonsense\n").unwrap();
    wait_until("housekeeping is done", || {
        logd.metric("compressed_files_total") >= 1 && logd.metric("rotated_files") == 1
    });
    wait_until("a sync was due", || logd.metric("syncs_total") > 0);
    std::fs::rename(logd.path("node_log"), logd.path("moved")).unwrap();
    logd.signal(Signal::SIGHUP);
    wait_until("it is reopened", || logd.metric("reopened_total") == 1);
    seen.append(&mut moved(&logd));

    // No descriptor is left for a connection, or for the file after a rotation.
    logd.limit(Resource::RLIMIT_NOFILE, 3);
    let waiting = client::connect(logd.address());
    open.write_all(&b"line\n".repeat(190)).unwrap();
    wait_until("the lines are written", || {
        std::fs::metadata(logd.path("node_log")).is_ok_and(|m| m.len() > 900)
    });
    open.write_all(&b"line\n".repeat(190)).unwrap();
    wait_until("the file was to be rotated and could not", || {
        std::fs::metadata(logd.path("node_log")).is_ok_and(|m| m.len() > 1800)
    });
    logd.limit(Resource::RLIMIT_NOFILE, 1024);
    wait_until("it accepts again", || logd.metric("connections_total") == 6);
    drop((open, waiting));
    wait_until("both are gone", || logd.metric("connections_open") == 0);
    seen.append(&mut moved(&logd));

    let logd = Logd::start(&["--file", "logs/node_log"]);
    send(logd.address(), b"carried over\n").unwrap();
    std::fs::remove_dir_all(logd.path("logs")).unwrap();
    std::fs::create_dir(logd.path("logs")).unwrap();
    send(logd.address(), b"line\n").unwrap();
    seen.append(&mut moved(&logd));

    let logd = Logd::start(&["--allow", "10.0.0.0/8"]);
    send(logd.address(), b"refused\n").unwrap_err();
    logd.counts("refused_total{reason=\"not_allowed\"}", 1);
    seen.append(&mut moved(&logd));

    let logd = Logd::start(&["--idle-timeout", "2s", "--rotate-bytes", "0"]);
    client::end(&mut client::connect(logd.address())).unwrap_err();
    logd.limit(Resource::RLIMIT_FSIZE, 1000);
    let mut stream = client::connect(logd.address());
    let _ = stream.write_all(&b"line\n".repeat(1000));
    wait_until("the disk is full", || logd.metric("blocked") == 1 && logd.metric("pending_bytes") > 0);
    seen.append(&mut moved(&logd));

    let setup = Setup::new().arguments(&["--sync", "always"]);
    failing_disk(&setup);
    let library = setup.path("disk.so");
    let logd = setup.environment("LD_PRELOAD", library).start();
    std::fs::write(logd.path("disk_fails"), "").unwrap();
    send(logd.address(), b"line\n").unwrap_err();
    seen.append(&mut moved(&logd));

    let still: Vec<_> = names(&logd).into_iter().filter(|name| !seen.contains(name)).collect();
    assert!(still.is_empty(), "never moved: {still:?}");
}

#[test]
fn lines_of_a_failed_sync_get_no_receipt() {
    let setup = Setup::new().arguments(&["--sync", "always"]);
    failing_disk(&setup);
    let library = setup.path("disk.so");
    let logd = setup.environment("LD_PRELOAD", library).start();
    send(logd.address(), b"safe\n").unwrap();
    let mut begun = client::connect(logd.address());
    begun.write_all(b"begun\n").unwrap();
    wait_until("it has arrived", || logd.metric("lines_total") == 2);
    std::fs::write(logd.path("disk_fails"), "").unwrap();
    assert!(client::is_reset(&send(logd.address(), b"lost?\n").unwrap_err()));
    wait_until("it says so", || logd.ready().1.starts_with("disk: cannot sync the file to the disk"));
    assert_eq!(logd.ready().0, 503);
    std::fs::remove_file(logd.path("disk_fails")).unwrap();
    // The pages dropped by the failed sync may be this connection's: no later success makes up for that.
    assert!(client::is_reset(&client::receipt(begun).unwrap_err()));
    send(logd.address(), b"safe again\n").unwrap();
    wait_until("it is ready again", || logd.ready().0 == 200);
    logd.counts("resets_total{reason=\"not_safe\"}", 2);
}

#[test]
fn every_metric_is_documented() {
    let readme = include_str!("../../README.md");
    let logd = Logd::start(&[]);
    // The table states once that all names begin with `logd_` and that counters end in `_total`.
    let documented =
        |name: &str| readme.contains(&format!("`{name}`")) || readme.contains(&format!("`{name}{{"));
    let undocumented: Vec<_> = names(&logd)
        .into_iter()
        .filter_map(|name| Some(name.strip_prefix("logd_")?.to_owned()))
        .filter(|name| !documented(name.trim_end_matches("_total").trim_end_matches("_count")))
        .collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
}
