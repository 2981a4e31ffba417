//! Queues as a pure state machine: time and a request go in, changes of state come out.

pub mod attempts;
pub mod contract;
pub mod core;
pub mod item;
pub mod keys;
#[cfg(test)]
mod model;
pub mod order;
pub mod policy;
pub mod queue;
pub mod record;
pub mod shelf;
#[cfg(test)]
mod strange;
pub mod usage;
