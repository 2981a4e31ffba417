//! Tests the whole binary over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod backup;
mod batch;
mod bounds;
mod course;
mod crash;
mod daemon;
mod disk_full;
mod drain;
mod events;
mod keys;
mod listing;
mod metrics;
mod openapi;
mod operation;
mod page;
mod tokens;
mod watch;
