//! logcd keeps a directory's logs in one plain tar.gz or tar.zst a day, at the cost of the new bytes only.
//!
//! A cycle: [`scan`] looks, [`plan`] and [`verdict`] set what is there against what is [`held`], [`assembly`]
//! makes the new archive out of the old one's blocks and what the [`source`]s have to add, and [`archivist`]
//! publishes it. [`control`] decides when.

pub mod adopt;
pub mod alarm;
pub mod archivist;
pub mod assembly;
pub mod beneath;
pub mod block;
pub mod cat;
pub mod checksum;
pub mod codec;
pub mod config;
pub mod control;
pub mod day;
pub mod deflate;
pub mod diary;
pub mod draft;
pub mod entry;
pub mod extract;
pub mod header;
pub mod held;
pub mod index;
pub mod list;
pub mod metrics;
pub mod once;
pub mod outdir;
pub mod page;
pub mod pattern;
pub mod plan;
pub mod pool;
pub mod progress;
pub mod reader;
pub mod removal;
pub mod retention;
pub mod scan;
pub mod settings;
pub mod source;
pub mod superseded;
pub mod trouble;
pub mod verdict;
pub mod verify;
pub mod worker;
pub mod zstandard;

use kit::exit::{Exit, Fatal};
use settings::{Command, Flags};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

/// The command line as it is parsed, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("LOGCD")
}

/// The whole program but for the process's exit: what `main` and the crew's binary call.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("LOGCD", argv)?;
    match &settings.flags.command {
        Some(Command::List(options)) => return list::list(&options.archive),
        Some(Command::Cat(options)) => return cat::cat(&options.archive, &options.name),
        Some(Command::Extract(options)) => {
            return extract::extract(&options.archive, &options.names, &options.to);
        }
        Some(Command::Verify(options)) => return verify_archive(&options.archive),
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

fn verify_archive(path: &Path) -> Result<(), Fatal> {
    let reader = reader::Reader::open(path)?;
    let totals = verify::verify(progress::reading(&reader.file), reader.index.as_ref()).map_err(|fault| {
        Fatal::new(Exit::Failure, format!("{} is damaged", path.display())).because(fault)
    })?;
    let index =
        if reader.index.is_some() { ", and its index fits" } else { "; no index that fits beside it" };
    let verify::Totals { files, bytes } = totals;
    writeln!(std::io::stdout().lock(), "{}: sound, {files} files, {bytes} bytes{index}", path.display())
        .map_err(reader.failed())
}
