//! Tests the whole binary against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod backup;
mod gate;
mod keys;
mod kvctl;
mod letters;
mod rebalance;
mod server;
mod watch;
