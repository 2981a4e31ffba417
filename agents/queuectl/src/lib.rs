//! queuectl, the client and worker of queued: pushes items, runs a command for each until the queue is
//! drained, and shows and changes queues.

mod api;
mod attempts;
mod children;
mod connection;
mod failure;
mod flags;
mod invocation;
mod items;
mod keeper;
mod last_line;
mod manage;
mod missing;
mod output;
mod process;
mod push;
mod queue_name;
mod queue_notices;
mod retry;
mod stats;
mod tally;
mod verdict;
mod wire;
mod worker;

use api::Client;
use flags::{Command, Flags};
use kit::caller::ServerOrigin;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use manage::Console;
use std::ffi::OsString;

const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";

/// The command line, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("QUEUECTL")
}

/// Runs the program with `argv`, whose first word is its name.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<Exit, Fatal> {
    kit::lifecycle::stop::hold_signals();
    let flags = kit::settings::load::<Flags>("QUEUECTL", argv)?.flags;
    kit::client::run(&flags.common, run(&flags))
}

async fn run(flags: &Flags) -> Result<Exit, Fatal> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let server =
        flags.server.clone().or_else(|| set("QUEUE_URL")).unwrap_or_else(|| SERVER_DEFAULT.to_owned());
    let client = Client::new(ServerOrigin::parse(&server, &flags.tls)?, flags.token_file.clone());
    let stop = Stop::on_signals(flags.common.drain_timeout)?;
    if let Command::Run(run) = &flags.command {
        return worker::run(client, run, &stop, flags.common.drain_timeout).await;
    }
    let console = Console::new(&client, flags);
    let once = async {
        match &flags.command {
            Command::Push(push) => push::push(&console, push).await,
            Command::Stats(stats) => stats::stats(&console, stats).await,
            other => console.run(other).await,
        }
    };
    match stop.drain.run_until_cancelled(once).await {
        Some(result) => result.map(Exit::from),
        None => Ok(Exit::TryAgain),
    }
}
