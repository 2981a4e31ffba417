//! queued hands out work items to Jobs.
//!
//! An item's way: a door ([`http`], [`line`](mod@line)) asks the [`engine`], which is a pure state machine behind a trait;
//! [`local`] is that engine on one machine, with those who wait, and [`log`] what it keeps on the disk. [`control`] opens all
//! that and passes signals and changed settings on; [`server`] runs the doors.

pub mod control;
pub mod engine;
pub mod http;
pub mod line;
pub mod local;
pub mod log;
pub mod metrics;
pub mod scrape;
pub mod server;
pub mod settings;

use kit::exit::Fatal;
use kit::settings::Door;
use settings::{Command, Flags};
use std::ffi::OsString;

/// The command line as it is parsed, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("QUEUED")
}

/// The whole program but for the process's exit: what `main` and the crew's binary call.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("QUEUED", argv)?;
    match &settings.flags.command {
        Some(Command::Check(check)) => return log::check::check(&check.path),
        Some(Command::Repair(directory)) => return log::repair::repair(&directory.dir),
        Some(Command::Backup(backup)) => return log::backup::backup(&backup.dir, &backup.to),
        Some(Command::Restore(restore)) => return log::restore::restore(&restore.file, &restore.data),
        None => {}
    }
    let serve = &settings.flags.serve;
    serve.check()?;
    let (common, admin) = (serve.common.clone(), serve.admin.unwrap_or(Door(None)));
    kit::daemon::run("queued", &common, admin, |context| control::run(settings, context))
}
