//! The log on stderr, and metrics.

pub mod logs;
pub mod metrics;
