//! The daemon and its readers, as a library and as processes, on real directories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

mod cli;
mod codec_switch;
mod concurrency;
mod daemon;
mod days;
mod directories;
mod disk;
mod edits;
mod history;
mod index;
mod places;
mod pods;
mod readers;
mod removal;
mod root_filesystems;
mod safety;
mod support;
mod terminal;
mod upgrade;
