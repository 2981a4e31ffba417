//! The walk-throughs on a real cluster, word for word, and the promises under failures.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod all_nodes;
mod chart;
mod config;
mod container_logs;
mod crew;
mod jobs;
mod key_value;
mod kubectl;
mod lines;
mod log_compressor;
mod log_daemon;
mod manifest;
mod multiplier;
mod namespace;
mod node;
#[cfg(feature = "node-loss-tests")]
mod node_loss;
mod operations;
mod rng;
mod secrets;
mod waiting;
mod work_queue;
