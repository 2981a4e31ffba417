//! rng, a sample workload: a service on each node that answers with random bytes and names the node and pod
//! that answered.
//!
//! [`route`] reads a request's path, [`answer`] makes the answer, and [`random`] makes its bytes.
//! [`access_log`] writes its line on stdout. [`control`] opens the socket and passes on signals and changed
//! settings.

pub mod access_log;
pub mod answer;
pub mod control;
pub mod metrics;
pub mod random;
pub mod route;
pub mod settings;

use kit::exit::Fatal;
use kit::settings::Door;
use settings::Flags;
use std::ffi::OsString;

/// Returns the command line definition, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("RNG")
}

/// Runs the whole program. `argv` starts with the program's name.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("RNG", argv)?;
    settings.flags.check()?;
    let (common, admin) = (settings.flags.common.clone(), settings.flags.admin.unwrap_or(Door(None)));
    kit::daemon::run("rng", &common, admin, |context| control::run(settings, context))
}
