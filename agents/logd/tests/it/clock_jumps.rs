//! Setting the wall clock makes a file neither older nor younger.

use crate::client::send;
use crate::daemon::{Logd, Setup};
use trial::{Clock, wait_until};

fn start(rotate_age: &str) -> (Logd, Clock) {
    let setup = Setup::new().arguments(&["--format", "stamped", "--rotate-age", rotate_age, "--no-gzip"]);
    let clock = Clock::new(&setup.path(""), "+0");
    let mut command = setup.command();
    clock.give_to(&mut command);
    (setup.start_with(command), clock)
}

/// Sets the clock, and sends lines before and afterwards that show the change.
fn set_clock(logd: &Logd, clock: &Clock, offset: &str) {
    let year = |text: &str| text[..4].parse::<u32>().unwrap();
    let newest = || String::from_utf8(logd.file()).unwrap().lines().last().unwrap().to_owned();
    send(logd.address(), b"before\n").unwrap();
    let before = newest();
    clock.set(offset);
    send(logd.address(), b"after\n").unwrap();
    assert!(year(&before).abs_diff(year(&newest())) >= 9, "the clock is not set: {}", newest());
}

#[test]
#[ignore = "needs libfaketime: just test-programs"]
fn clock_set_forward_rotates_nothing() {
    let (logd, clock) = start("1h");
    set_clock(&logd, &clock, "+10y");
    assert_eq!(logd.metric("rotations_total"), 0);
}

#[test]
#[ignore = "needs libfaketime: just test-programs"]
fn clock_set_back_delays_no_rotation() {
    let (logd, clock) = start("1s");
    set_clock(&logd, &clock, "-10y");
    let before = logd.metric("rotations_total");
    wait_until("it is rotated when a second has passed", || {
        send(logd.address(), b"more\n").unwrap();
        logd.metric("rotations_total") > before
    });
}
