//! logcd keeps a directory's logs in one plain tar.gz or tar.zst a day, at the cost of the new bytes only.
//!
//! A cycle ([`cycle::archivist`]): [`logs::scan`] looks, [`cycle::plan`] and [`cycle::comparison`] set what is there against what
//! is [`held`](cycle::held), and [`cycle::assembly`] makes the new archive out of the old one's blocks and what the
//! [`sources`](logs::source) have to add. What an archive is made of is in [`archive`]. [`control`] decides when; [`commands`] is
//! what a person does with an archive.

pub mod alarm;
pub mod archive;
pub mod beneath;
pub mod commands;
pub mod config;
pub mod control;
pub mod cycle;
pub mod day;
pub mod diary;
pub mod freshness;
pub mod logs;
pub mod metrics;
pub mod once;
pub mod outdir;
pub mod page;
pub mod progress;
pub mod settings;
pub mod trouble;
pub mod worker;

use kit::exit::Fatal;
use settings::{Command, Flags};
use std::ffi::OsString;

/// The command line as it is parsed, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("LOGCD")
}

/// The whole program but for the process's exit: what `main` and the crew's binary call.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("LOGCD", argv)?;
    match &settings.flags.command {
        Some(Command::List(options)) => return commands::list::list(&options.archive),
        Some(Command::Cat(options)) => return commands::cat::cat(&options.archive, &options.name),
        Some(Command::Extract(options)) => {
            return commands::extract::extract(&options.archive, &options.names, &options.to);
        }
        Some(Command::Verify(options)) => return commands::verify::verify(&options.archive),
        None => {}
    }
    let serve = &settings.flags.serve;
    serve.level()?;
    let (common, admin) = (serve.common.clone(), serve.admin);
    if serve.once {
        kit::logs::start(&common.log_level, common.log_format)?;
        kit::daemon::runtime()?.block_on(async { kit::stop::survive_size_limit() })?;
        return once::once(serve.config()?);
    }
    kit::daemon::run("logcd", &common, admin, |context| control::run(settings, context))
}
