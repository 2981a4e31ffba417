//! The daemon as a process: each test tries to break one of its promises.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod client;
mod clock_jumps;
mod command_line;
mod crowd;
mod daemon;
mod disk_full;
mod hostile;
mod logrotate;
mod lost_file;
mod marked_lines;
mod metrics;
mod odd_input;
mod operation;
mod proxy;
mod real_clients;
mod receipt;
mod root_disk_full;
mod root_half_open;
mod rotation;
mod stats;
mod tls;
mod whole_lines;
