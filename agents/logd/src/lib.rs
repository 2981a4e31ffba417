//! logd takes log lines over TCP and keeps them in a file on the node.
//!
//! The path of a line: [`server`] accepts a connection, and [`connection`] reads it into the [`intake`].
//! There [`framing`] separates whole lines from unfinished ones, and [`line_format`] formats them. The intake
//! writes batches to the [`file::appender`], and the [`syncer`] forces them to the disk. [`file::rotation`]
//! decides when to rotate the file. [`file::housekeeping`] compresses and removes old files. [`read`] prints
//! the [`file::rotated`] files with the rest. [`control`] starts all of these and passes on signals and
//! changed settings. [`page`] shows the state, and [`stats`] does so in a terminal.

pub mod budget;
pub mod connection;
pub mod control;
pub mod file;
pub mod framing;
pub mod intake;
pub mod line_filter;
pub mod line_format;
pub mod metrics;
pub mod newest_lines;
pub mod pace;
pub mod page;
pub mod peers;
pub mod proxy_header;
pub mod read;
pub mod server;
pub mod settings;
pub mod stats;
pub mod syncer;

use kit::exit::Fatal;
use settings::{Command, Flags};
use std::ffi::OsString;

/// Returns the command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("LOGD")
}

/// Runs the whole program except for the process's exit: `main` and the crew's binary call it.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("LOGD", argv)?;
    match &settings.flags.command {
        Some(Command::Read(options)) => return read::read(options),
        Some(Command::Stats(options)) => return stats::stats(options),
        None => {}
    }
    let serve = &settings.flags.serve;
    let (common, admin) = (serve.common.clone(), serve.admin);
    kit::daemon::run("logd", &common, admin, |context| control::run(settings, context))
}
