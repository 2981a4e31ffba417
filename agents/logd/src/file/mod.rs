//! The file that lines are kept in, and those that it was rotated into.

pub mod housekeeping;
pub mod journal;
pub mod lock;
pub mod mending;
pub mod rotated;
pub mod rotation;
pub mod unsynced;
