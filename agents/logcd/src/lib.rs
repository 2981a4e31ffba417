//! logcd keeps a directory's logs in one plain tar.gz a day, at the cost of the new bytes only.
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
pub mod checksum;
pub mod config;
pub mod control;
pub mod day;
pub mod deflate;
pub mod draft;
pub mod entry;
pub mod header;
pub mod held;
pub mod index;
pub mod metrics;
pub mod once;
pub mod outdir;
pub mod pattern;
pub mod plan;
pub mod pool;
pub mod retention;
pub mod scan;
pub mod settings;
pub mod source;
pub mod superseded;
pub mod trouble;
pub mod verdict;
pub mod worker;

use kit::exit::Fatal;
use settings::Flags;
use std::ffi::OsString;

/// The whole program but for the process's exit: what `main` and the crew's binary call.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("LOGCD", argv)?;
    let serve = &settings.flags.serve;
    let (common, admin) = (serve.common.clone(), serve.admin);
    if serve.once {
        kit::logs::start(&common.log_level, common.log_format)?;
        return once::once(serve.config()?);
    }
    kit::daemon::run("logcd", &common, admin, |context| control::run(settings, context))
}
