//! kvd keeps keys and values: durable state of agents and Jobs, with `curl` as the client.
//!
//! The doors in [`http`] pass each request to the [`keyspace`], whose thread commits to a [`store`]: memory
//! or disk, behind one contract. With [`drain`], the doors refuse requests while the server goes down.
//! [`page`] shows the keys and the changes to people. [`control`] opens all of these, and passes on signals
//! and changed settings. [`server`] runs the doors.

pub mod control;
pub mod drain;
pub mod hot_keys;
pub mod http;
pub mod keyspace;
pub mod metrics;
pub mod page;
pub mod server;
pub mod settings;
pub mod store;

use kit::exit::Fatal;
use kit::settings::Door;
use settings::{Command, Flags};
use std::ffi::OsString;

/// Returns the definition of the command line, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("KVD")
}

/// Runs the whole program and returns instead of exiting, for `main` and the crew's binary.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let settings = kit::settings::load::<Flags>("KVD", argv)?;
    match &settings.flags.command {
        Some(Command::Drain(place)) => return drain::drain(place),
        Some(Command::Resume(place)) => return drain::resume(place),
        None => {}
    }
    let serve = &settings.flags.serve;
    serve.check()?;
    let (common, admin) = (serve.common.clone(), serve.admin.unwrap_or(Door(None)));
    kit::daemon::run("kvd", &common, admin, |context| control::run(settings, context))
}
