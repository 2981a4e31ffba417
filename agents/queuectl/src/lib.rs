//! queuectl, the client and worker of queued: pushes items, runs a command for each until the server says
//! that the queue is drained, and shows and changes queues.

mod api;
mod children;
mod failure;
mod flags;
mod invocation;
mod items;
mod keeper;
mod manage;
mod missing;
mod output;
mod patience;
mod process;
mod push;
mod queue_name;
mod stats;
mod tail;
mod tally;
mod target;
mod verdict;
mod wire;
mod worker;

use api::Client;
use flags::{Flags, Task};
use kit::exit::{Exit, Fatal};
use kit::stop::Stop;
use manage::Desk;
use std::ffi::OsString;
use target::Target;

const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";

/// The command line as it is parsed, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("QUEUECTL")
}

/// The whole program: `argv` as given, name first.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<Exit, Fatal> {
    let flags = kit::settings::load::<Flags>("QUEUECTL", argv)?.flags;
    kit::client::run(&flags.common, run(&flags))
}

async fn run(flags: &Flags) -> Result<Exit, Fatal> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let server =
        flags.server.clone().or_else(|| set("QUEUE_URL")).unwrap_or_else(|| SERVER_DEFAULT.to_owned());
    let client = Client::new(Target::parse(&server, &flags.tls)?, flags.token_file.clone());
    let stop = Stop::on_signals(flags.common.drain_timeout)?;
    if let Task::Run(run) = &flags.task {
        return worker::run(client, run, &stop, flags.common.drain_timeout).await;
    }
    let desk = Desk::new(&client, flags);
    let once = async {
        match &flags.task {
            Task::Push(push) => push::push(&desk, push).await,
            Task::Stats(stats) => stats::stats(&desk, stats).await,
            other => desk.work(other).await,
        }
    };
    match stop.drain.run_until_cancelled(once).await {
        Some(result) => result.map(Exit::from),
        None => Ok(Exit::TryAgain),
    }
}
