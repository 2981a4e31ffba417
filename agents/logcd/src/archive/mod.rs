//! The parts of an archive: tar members in compressed blocks, and the index next to it.

pub mod block;
pub mod checksum;
pub mod codec;
pub mod decoder;
pub mod deflate;
pub mod draft;
pub mod entry;
pub mod file_stamp;
pub mod header;
pub mod index;
pub mod member;
pub mod pack_error;
pub mod pool;
pub mod reader;
pub mod verify;
pub mod zstandard;
