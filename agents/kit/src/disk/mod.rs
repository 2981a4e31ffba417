//! Disks: free space, lock files, and syncs that can be believed.

pub mod free_space;
pub mod lock;
pub mod sync;
