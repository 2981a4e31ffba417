//! The log file: appending, rotation, syncing, locking, and the care of rotated files.

pub mod appender;
pub mod housekeeping;
pub mod lock;
pub mod logrotate;
pub mod repair;
pub mod rotated;
pub mod rotation;
pub mod unsynced;
pub mod write_error;
