//! The daemon as a process: each test tries to break one of its promises.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod client;
#[allow(dead_code, reason = "further tests are on their way")]
mod daemon;
mod odd_input;
mod receipt;
#[allow(dead_code, reason = "further tests are on their way")]
mod torrent;
mod whole_lines;
