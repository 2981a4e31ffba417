//! A cycle: from the files and the last archive to the next archive.

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
