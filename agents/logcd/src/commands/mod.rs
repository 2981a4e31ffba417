//! The commands that read an archive: list, cat, extract and verify.

pub mod cat;
pub mod extract;
pub mod list;
pub mod verify;
