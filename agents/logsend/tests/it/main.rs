//! Tests the whole binary against a receiver that can misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod command;
mod delivery;
mod greeting;
mod logsend;
mod real;
mod receiver;
mod spool;
mod strangers;
mod tls;
mod to_file;
