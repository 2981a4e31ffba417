//! The log compressor: a directory's logs in one plain tar.gz a day, at the cost of the new bytes only.

pub mod block;
pub mod checksum;
pub mod day;
pub mod deflate;
pub mod entry;
pub mod header;
pub mod index;
pub mod pattern;
pub mod retention;
pub mod superseded;
pub mod verdict;
