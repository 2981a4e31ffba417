//! The log compressor: a directory's logs in one plain tar.gz a day, at the cost of the new bytes only.

pub mod adopt;
pub mod archivist;
pub mod assembly;
pub mod beneath;
pub mod block;
pub mod checksum;
pub mod config;
pub mod day;
pub mod deflate;
pub mod draft;
pub mod entry;
pub mod header;
pub mod held;
pub mod index;
pub mod once;
pub mod outdir;
pub mod pattern;
pub mod plan;
pub mod pool;
pub mod priority;
pub mod retention;
pub mod scan;
pub mod settings;
pub mod source;
pub mod superseded;
pub mod trouble;
pub mod verdict;

use kit::exit::Fatal;
use std::ffi::OsString;

/// The program: `argv` as the shell gave it.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<settings::Flags>("LOGCD", argv)?;
    let config = settings.flags.config()?;
    kit::logs::start(&settings.flags.common.log_level, settings.flags.common.log_format)?;
    once::once(config)
}
