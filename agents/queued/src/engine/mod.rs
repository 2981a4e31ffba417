//! Queues as a pure state machine: given the time and a request it says what becomes of everything.

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
