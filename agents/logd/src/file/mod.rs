//! The file that lines are kept in, and the files that it was rotated into.

pub mod appender;
pub mod housekeeping;
pub mod inode;
pub mod lock;
pub mod mending;
pub mod outside;
pub mod rotated;
pub mod rotation;
pub mod unsynced;
pub mod write_error;
