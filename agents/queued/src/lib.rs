//! queued hands out work items to Jobs.
//!
//! A door ([`http`], [`line`](mod@line)) passes each request to the [`service`], the handle of the
//! [`engine`]. The engine is a pure state machine. [`commit`] takes its records to a log, and [`log`] is that
//! log on the disk. [`control`] opens all of these and passes on signals and changed settings; [`server`]
//! runs the doors.

pub mod commit;
pub mod control;
pub mod engine;
pub mod http;
pub mod line;
pub mod log;
pub mod metrics;
pub mod scrape;
pub mod server;
pub mod service;
pub mod settings;

use kit::exit::Fatal;
use kit::settings::Door;
use settings::{Command, Flags};
use std::ffi::OsString;

/// Returns the command line definition, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("QUEUED")
}

/// Runs the whole program and returns instead of exiting, for `main` and the crew's binary.
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
