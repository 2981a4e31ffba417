//! kvctl, the client of kvd: reads, changes and watches keys, makes backups, and distributes keys over
//! servers.

mod api;
mod backup;
mod flags;
mod keys;
mod letters;
mod moving;
mod output;
mod placement;
mod rebalance;
mod value_source;
mod watch;
mod wire;

use api::Client;
use flags::{Command, Flags};
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use std::ffi::OsString;

const SERVER_DEFAULT: &str = "http://127.0.0.1:8002";

/// Returns the definition of the command line, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("KVCTL")
}

/// Runs the program with `argv`, whose first word is its name.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<Exit, Fatal> {
    kit::lifecycle::stop::hold_signals();
    let flags = kit::settings::load::<Flags>("KVCTL", argv)?.flags;
    kit::client::run(&flags.common, run(&flags))
}

async fn run(flags: &Flags) -> Result<Exit, Fatal> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let server = flags.server.clone().or_else(|| set("KVD_URL")).unwrap_or_else(|| SERVER_DEFAULT.to_owned());
    let stop = Stop::on_signals(flags.common.drain_timeout)?;
    let client = || Client::of(&server, flags);
    let done = async {
        match &flags.command {
            Command::Get(get) => keys::get(&client()?, get, flags.json).await,
            Command::Put(put) => keys::put(&client()?, put, flags.json).await,
            Command::Delete(delete) => keys::delete(&client()?, delete, flags.json).await,
            Command::Cas(cas) => keys::cas(&client()?, cas, flags.json).await,
            Command::List(list) => keys::list(&client()?, list, flags.json).await,
            Command::Watch(watch) => watch::watch(&client()?, watch, flags.json).await,
            Command::Backup(backup) => backup::backup(&client()?, backup).await,
            Command::Restore(restore) => backup::restore(&client()?, restore).await,
            Command::Rebalance(rebalance) => rebalance::rebalance(rebalance, flags).await,
            Command::WatchLetters(letters) => letters::watch(letters, flags).await,
        }
    };
    match stop.drain.run_until_cancelled(done).await {
        Some(result) => result,
        None => Ok(Exit::TryAgain),
    }
}
