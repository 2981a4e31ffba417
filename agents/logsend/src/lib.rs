//! logsend, the client of logd: reads lines from stdin, a command or a clock, and sends them in batches. Each
//! batch counts as delivered only with a receipt.

mod answer;
mod append;
mod backlog;
mod command;
mod delivery;
mod flags;
mod greeting;
mod host;
mod input;
mod outbox;
mod plain;
mod receipt;
mod segments;
mod sink;
mod spool;
mod stream;
mod tally;

use append::Append;
use backlog::Backlog;
use delivery::Delivery;
use flags::Flags;
use input::Input;
use kit::client::Server;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use receipt::Receiver;
use sink::Sink;
use std::ffi::OsString;
use std::path::Path;

/// Returns the command line definition, for man pages and completions.
pub fn command() -> clap::Command {
    kit::settings::command::<Flags>("LOGSEND")
}

/// Runs the whole program. `argv` starts with the program's name.
pub fn cli(argv: impl IntoIterator<Item = OsString>) -> Result<Exit, Fatal> {
    kit::lifecycle::stop::hold_signals();
    let flags = kit::settings::load::<Flags>("LOGSEND", argv)?.flags;
    flags.check()?;
    kit::client::run(&flags.common, run(&flags))
}

async fn run(flags: &Flags) -> Result<Exit, Fatal> {
    let stop = Stop::on_signals(flags.common.drain_timeout)?;
    match &flags.to_file {
        Some(path) => append(flags, path, &stop).await,
        None => send(flags, &stop).await,
    }
}

async fn append(flags: &Flags, path: &Path, stop: &Stop) -> Result<Exit, Fatal> {
    let file = Append::open(path, stop)?;
    let mut input = Input::open(flags)?;
    let feed = async {
        input.feed(&file, stop).await;
        file.room().await;
    };
    stop.abort.run_until_cancelled(feed).await;
    let exit = input.close(&file);
    file.close(exit)
}

async fn send(flags: &Flags, stop: &Stop) -> Result<Exit, Fatal> {
    let target = target(flags)?;
    let backlog = Backlog::open(flags)?;
    let delivery = Delivery::new(target, backlog, stop.clone());
    let mut input = Input::open(flags)?;
    let feed = async {
        input.feed(&delivery, stop).await;
        delivery.input_ended();
        match flags.give_up {
            Some(patience) => tokio::time::sleep(patience).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = delivery.run() => {}
        () = feed => tracing::warn!(
            event = "gave_up",
            give_up = ?flags.give_up.unwrap_or_default(),
            "giving up"
        ),
        () = stop.abort.cancelled() => {}
    }
    let exit = input.close(&delivery);
    delivery.close(exit)
}

fn target(flags: &Flags) -> Result<Receiver, Fatal> {
    let host = match &flags.host {
        Some(host) => host.clone(),
        None => host::of_this_node()?,
    };
    Ok(Receiver {
        server: Server::new(host, flags.port, &flags.tls)?,
        receipt: flags.receipt,
        connect_timeout: flags.connect_timeout,
        receipt_timeout: flags.receipt_timeout,
    })
}
