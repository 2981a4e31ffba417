//! Power loss, kills and disk faults at chosen moments, on real file systems; every promise is checked after
//! each.
//!
//! `ROUNDS` sets how often each random attack is repeated. If it is set, the attacks by call number try every
//! call.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the counts are the result")]

mod binaries;
mod container_logs;
mod disk;
mod faults;
mod http;
mod keys;
mod lines;
mod logs;
mod power_loss;
mod queue;
mod read_only;

/// Rounds of each random attack, unless `ROUNDS` says otherwise.
const ROUNDS_IN_CI: u64 = 5;

fn rounds() -> u64 {
    std::env::var("ROUNDS").map_or(ROUNDS_IN_CI, |rounds| rounds.parse().expect("ROUNDS is a number"))
}
