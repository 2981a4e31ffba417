//! Disks: free space, files that are replaced whole, the identity of files, lock files, and syncs that can be
//! believed.

pub mod draft;
pub mod free_space;
pub mod inode;
pub mod lock;
pub mod sync;
