//! logd takes log lines over TCP and keeps them in a file on the node.
//!
//! A line's way: [`server`] accepts a connection, [`connection`] reads it into the [`intake`], where [`framing`]
//! tells whole lines from unfinished ones and [`line_format`] dresses them; the intake writes batches to the
//! [`file::journal`], which [`file::rotation`] decides when to rotate and [`file::housekeeping`] compresses and removes. What was
//! [`file::rotated`] is read with the rest by [`read`].
//! [`control`] starts all that and passes signals and changed settings on; [`page`] shows it, and
//! [`stats`] does so in a terminal.

pub mod budget;
pub mod connection;
pub mod control;
pub mod file;
pub mod framing;
pub mod intake;
pub mod line_filter;
pub mod line_format;
pub mod metrics;
pub mod pace;
pub mod page;
pub mod peers;
pub mod proxy_header;
pub mod read;
pub mod server;
pub mod settings;
pub mod stats;
pub mod tail;

use kit::exit::Fatal;
use settings::{Command, Flags};
use std::ffi::OsString;

/// The command line as it is parsed, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("LOGD")
}

/// The whole program but for the process's exit: what `main` and the crew's binary call.
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
