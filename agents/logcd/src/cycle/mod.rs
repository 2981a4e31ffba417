//! A cycle: from the files and the last archive to the next archive.

pub mod adopt;
pub mod archiver;
pub mod assembly;
pub mod comparison;
pub mod indexed_archive;
pub mod plan;
pub mod retention;
pub mod scrub;
pub mod superseded;
