//! The queues as a pure state machine: a time and a request determine the changes of state.

#[cfg(test)]
mod arbitrary_records;
pub mod attempts;
pub mod contract;
pub mod core;
pub mod counters;
pub mod item;
pub mod items;
pub mod keys;
#[cfg(test)]
mod model;
pub mod order;
pub mod policy;
pub mod queue;
pub mod record;
pub mod usage;
