//! Tests the whole binary over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod access_log;
mod contract;
mod daemon;
mod hostile;
mod metrics;
mod operation;
