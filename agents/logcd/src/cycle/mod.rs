//! A cycle of logcd: compares the log files with the newest archive, and makes the next archive from both.

pub mod adopt;
pub mod archiver;
pub mod assembly;
pub mod base;
pub mod changes;
pub mod comparison;
pub mod indexed_archive;
pub mod plan;
pub mod report;
pub mod retention;
pub mod scrub;
pub mod superseded;
pub mod survey;
