//! The keys: the contract of all engines, and the engines.

pub mod contract;
pub mod disk;
pub mod evaluation;
pub mod key;
pub mod memory;
pub mod ring;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod model;
