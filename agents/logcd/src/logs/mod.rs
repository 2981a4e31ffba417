//! The directories of logs: what is in them, how it is read, and what is deleted.

pub mod directories;
pub mod open_logs;
pub mod pattern;
pub mod removal;
pub mod scan;
pub mod source;
