//! A wall clock that is set: a file becomes no older by that, and no younger. Needs libfaketime.

use crate::client::send;
use crate::daemon::{Logd, Setup};
use trial::wait_until;

fn start(rotate_age: &str) -> Logd {
    let setup = Setup::new().arguments(&["--format", "stamped", "--rotate-age", rotate_age, "--no-gzip"]);
    let clock = setup.path("clock");
    setup.write("clock", "+0");
    let setup = setup.environment("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1");
    let setup = setup.environment("FAKETIME_TIMESTAMP_FILE", clock).environment("FAKETIME_NO_CACHE", "1");
    setup.environment("FAKETIME_DONT_FAKE_MONOTONIC", "1").environment("NO_FAKE_STAT", "1").start()
}

/// And a line afterwards, which shows that it is.
fn set_clock(logd: &Logd, offset: &str) {
    let year = |text: &str| text[..4].parse::<u32>().unwrap();
    let newest = || String::from_utf8(logd.file()).unwrap().lines().last().unwrap().to_owned();
    send(logd.address(), b"before\n").unwrap();
    let before = newest();
    // Replaced, not rewritten: it is read all the time.
    std::fs::write(logd.path("clock.new"), offset).unwrap();
    std::fs::rename(logd.path("clock.new"), logd.path("clock")).unwrap();
    send(logd.address(), b"after\n").unwrap();
    assert!(year(&before).abs_diff(year(&newest())) >= 9, "the clock is not set: {}", newest());
}

#[test]
fn a_clock_that_is_put_forward_rotates_nothing() {
    let logd = start("1h");
    set_clock(&logd, "+10y");
    assert_eq!(logd.metric("rotations_total"), 0);
}

#[test]
fn a_clock_that_is_put_back_delays_no_rotation() {
    let logd = start("1s");
    set_clock(&logd, "-10y");
    let before = logd.metric("rotations_total");
    wait_until("it is rotated when a second has passed", || {
        send(logd.address(), b"more\n").unwrap();
        logd.metric("rotations_total") > before
    });
}
