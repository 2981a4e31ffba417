//! What a person does with an archive.

pub mod cat;
pub mod extract;
pub mod list;
pub mod verify;
