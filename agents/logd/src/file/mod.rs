//! The file that lines are kept in, and the files that it was rotated into.

pub mod carry_over;
pub mod housekeeping;
pub mod inode;
pub mod journal;
pub mod lock;
pub mod mending;
pub mod obstacle;
pub mod outside;
pub mod rotated;
pub mod rotation;
pub mod unsynced;
