//! The log directories: lists, reads and deletes their files.

pub mod directories;
pub mod open_logs;
pub mod pattern;
pub mod removal;
pub mod scan;
pub mod source;
