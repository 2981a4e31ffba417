//! The directory of logs: what is in it, how it is read, and what is deleted.

pub mod pattern;
pub mod removal;
pub mod scan;
pub mod source;
