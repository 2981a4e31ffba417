//! Tests the whole binary against a server that can misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod ending;
mod faults;
mod items;
mod push;
mod queuectl;
mod real;
mod run;
mod server;
