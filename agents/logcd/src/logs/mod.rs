//! The log directories: lists, reads and deletes their files.

pub mod directories;
pub mod hard_links;
pub mod log_file;
pub mod open_logs;
pub mod other_names;
pub mod pattern;
pub mod removal;
pub mod scan;
pub mod scanned_file;
pub mod skip;
pub mod unmatched;
pub mod walk;
