//! Commands with which a person reads an archive.

pub mod cat;
pub mod extract;
pub mod list;
pub mod verify;
