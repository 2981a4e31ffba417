//! The daemon as a process, and its engines: each test tries to break one of their promises.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod access;
mod attempts;
mod backup;
mod clock_jumps;
mod completeness;
mod conformance;
mod crash;
mod crowd;
mod daemon;
mod damage;
mod disk_full;
mod gone;
mod history;
mod http;
mod line;
mod many_queues;
mod memory;
mod metrics;
mod openapi;
mod page;
mod protocol;
mod proxies;
mod slow_disk;
mod smuggling;
mod upgrade;
mod verdict;
mod walkthroughs;
