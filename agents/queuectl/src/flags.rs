//! The settings of queuectl: those that every subcommand shares, and those of each subcommand.

use crate::queue_name::QueueName;
use crate::wire::Until;
use kit::settings::help::{examples, shared};
use kit::settings::{Common, parse_duration, parse_size};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Client and worker of queued: pushes items, and runs a command for each.
///
/// Each long flag is also an environment variable (QUEUECTL_QUEUE for --queue). $QUEUE_URL also names the
/// server.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "queuectl", mut_args(|arg| shared(arg).global(true)),
    after_long_help = examples(&[
        "seq 100 | queuectl push -q numbers --seal",
        "queuectl run -q numbers -j 4 -- ./work.sh",
        "queuectl stats --watch",
    ]),
    mut_arg("config", |arg| arg.help("Read settings from this TOML file at start; its keys are the long flag names")),
    mut_arg("tls_ca", |arg| arg.visible_alias("ca").help("Trust only this CA (PEM) for an https server's certificate, instead of the system's CAs")))]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// The URL of queued; without it $QUEUE_URL, else http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Send the bearer token in this file, which is read again for each request
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Retry for this long while the server is unreachable or full. Default: run retries for ever, push,
    /// seal, unseal and create for 1m; the others try once
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) give_up: Option<Duration>,

    /// Print JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) tls: kit::net::tls::ClientFiles,

    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a command for each item until the queue is drained: the worker of a Job
    ///
    /// Exit codes: 0, the queue is drained and no item died; 65, it is drained, but items died; 75, stopped
    /// by a signal, and the unfinished items were requeued; 64 and 78, a bad flag or configuration; 126 and
    /// 127, the command cannot be run.
    #[command(after_long_help = examples(&[
        "queuectl run -q numbers -- ./work.sh                 # the item is on stdin and in $ITEM",
        "queuectl run -q files -j 8 --timeout 10m -- gzip {}",
        "queuectl run -q numbers -- sh -c 'echo $((ITEM * 2))'",
    ]))]
    Run(Run),
    /// Push items: the arguments, else files, else the lines of a file or stdin
    #[command(after_long_help = examples(&[
        "seq 100 | queuectl push -q numbers --seal",
        "queuectl push -q images -f one.png two.png           # the content of each file is an item",
        "queuectl push -q days --key-prefix v1 --lines days   # safe to repeat",
    ]))]
    Push(Push),
    /// Declare that nothing more will be pushed
    #[command(after_long_help = examples(&["queuectl seal -q numbers", "queuectl seal -q numbers --json"]))]
    Seal(QueueFlag),
    /// Allow pushes again
    #[command(after_long_help = examples(&["queuectl unseal -q numbers", "queuectl unseal -q numbers --json"]))]
    Unseal(QueueFlag),
    /// Hand out no items until the queue is resumed
    #[command(after_long_help = examples(&["queuectl pause -q numbers", "queuectl pause -q numbers --json"]))]
    Pause(QueueFlag),
    /// Hand out items again
    #[command(after_long_help = examples(&["queuectl resume -q numbers", "queuectl resume -q numbers --json"]))]
    Resume(QueueFlag),
    /// Remove all ready and delayed items
    #[command(after_long_help = examples(&["queuectl drain -q numbers", "queuectl drain -q numbers --json"]))]
    Drain(QueueFlag),
    /// Show a queue, or all of them
    #[command(after_long_help = examples(&[
        "queuectl stats",
        "queuectl stats -q numbers --watch",
        "queuectl stats -q numbers --json",
    ]))]
    Stats(Stats),
    /// Show items without leasing them
    #[command(after_long_help = examples(&[
        "queuectl peek -q numbers --state ready",
        "queuectl peek -q orders --text 'customer 17' -n 100",
        "queuectl peek -q orders --id 5f0c6e3b9d2a417e0000000000000001   # with its attempts",
    ]))]
    Peek(Peek),
    /// Delete ready, delayed or dead items
    #[command(after_long_help = examples(&[
        "queuectl delete-items -q orders 5f0c6e3b9d2a417e0000000000000001",
        "queuectl delete-items -q orders 5f0c6e3b9d2a417e0000000000000001 5f0c6e3b9d2a417e0000000000000002",
    ]))]
    DeleteItems(ItemIds),
    /// Move ready, delayed or dead items to another queue, as new items
    #[command(after_long_help = examples(&[
        "queuectl move-items -q orders --to orders-by-hand 5f0c6e3b9d2a417e0000000000000001",
        "queuectl move-items -q orders --to slow 5f0c6e3b9d2a417e0000000000000001 --json",
    ]))]
    MoveItems(MoveItems),
    /// List, redrive or delete items that failed too often
    #[command(subcommand, after_long_help = examples(&[
        "queuectl dead list -q numbers",
        "queuectl dead redrive -q numbers --all",
    ]))]
    Dead(Dead),
    /// List the names of all queues
    #[command(after_long_help = examples(&["queuectl queues", "queuectl queues --json"]))]
    Queues,
    /// Create a queue
    #[command(after_long_help = examples(&[
        "queuectl create -q numbers",
        "queuectl create -q numbers --lease 5m --max-attempts 3",
        "queuectl create -q numbers --dead-letter-queue numbers-dead",
    ]))]
    Create(Configure),
    /// Change the settings of an existing queue; those not given keep their value
    #[command(after_long_help = examples(&[
        "queuectl configure -q numbers --lease 5m",
        "queuectl configure -q numbers --dead-letter-queue ''   # keep dead items in the queue",
    ]))]
    Configure(Configure),
    /// Delete a queue with everything in it
    #[command(after_long_help = examples(&["queuectl delete -q numbers", "queuectl delete -q numbers --json"]))]
    Delete(QueueFlag),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct QueueFlag {
    /// The queue's name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) queue: QueueName,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) which: QueueFlag,

    /// The command; it gets the item on stdin, in $ITEM, and in place of {} in its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// Work on this many items at once
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,

    /// Lease this many items with one request, and work on them one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) batch: u32,

    /// Stop a command that runs longer than this; its item counts as failed
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) timeout: Option<Duration>,

    /// Kill a command that has not ended this long after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) grace: Duration,

    /// Expire a lease that is not extended for this long, instead of the time set for the queue
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) lease: Option<Duration>,

    /// Stop when the queue is in this state
    #[arg(long, value_name = "STATE", default_value = "drained")]
    pub(crate) until: Until,

    /// Exit with 0 even if items died; without this flag the exit code is then 65
    #[arg(long)]
    pub(crate) allow_dead: bool,

    /// Replace this word with the item in the command's arguments; empty: replace nothing
    #[arg(long, value_name = "WORD", default_value = "{}")]
    pub(crate) replace: OsString,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) which: QueueFlag,

    /// Push each argument as an item
    #[arg(value_name = "ITEM", conflicts_with = "file")]
    pub(crate) items: Vec<OsString>,

    /// Push the content of each of these files as an item
    #[arg(short, long, value_name = "FILE", num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,

    /// Push each line of this file, instead of stdin, as an item
    #[arg(long, value_name = "FILE", conflicts_with_all = ["items", "file"])]
    pub(crate) lines: Option<PathBuf>,

    /// Read items on stdin or in --lines that end with a NUL byte instead of a newline
    #[arg(short = '0', long)]
    pub(crate) null: bool,

    /// Seal the queue together with the last item, in one commit
    #[arg(long)]
    pub(crate) seal: bool,

    /// Give the single item this key; a repeated push with the same key adds no second item
    #[arg(long, value_name = "KEY", conflicts_with = "key_prefix")]
    pub(crate) key: Option<String>,

    /// Give the items the keys PREFIX-1, PREFIX-2, …; repeating the same push adds no item twice
    #[arg(long, value_name = "PREFIX")]
    pub(crate) key_prefix: Option<String>,

    /// Push without keys; items may be added twice if the server's answer is lost
    #[arg(long, conflicts_with_all = ["key", "key_prefix"])]
    pub(crate) no_key: bool,

    /// Make the items available only after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) delay: Option<Duration>,

    /// Print the items' ids, one a line
    #[arg(long)]
    pub(crate) ids: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Stats {
    /// Show only this queue
    #[arg(short, long, value_name = "NAME")]
    pub(crate) queue: Option<QueueName>,

    /// Update the numbers until interrupted
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Update the numbers at this interval
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    pub(crate) interval: Duration,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pagination {
    #[command(flatten)]
    pub(crate) which: QueueFlag,

    /// Show at most this many items
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,

    /// Start after this item
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub(crate) after: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Peek {
    #[command(flatten)]
    pub(crate) page: Pagination,

    /// Show only items in this state
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<ItemState>,

    /// Show only the item with this id, with its last attempts
    #[arg(long, value_name = "ID", value_parser = parse_id, conflicts_with_all = ["state", "key", "text", "limit", "after"])]
    pub(crate) id: Option<String>,

    /// Show only the item with this key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,

    /// Show only items with this text in their body or key
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ItemIds {
    #[command(flatten)]
    pub(crate) which: QueueFlag,

    /// The ids of the items
    #[arg(value_name = "ID", required = true, value_parser = parse_id)]
    pub(crate) ids: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MoveItems {
    #[command(flatten)]
    pub(crate) items: ItemIds,

    /// Move them to this queue; it is created if it does not exist
    #[arg(long, value_name = "NAME")]
    pub(crate) to: QueueName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ItemState {
    Ready,
    Delayed,
    Leased,
    Dead,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Dead {
    /// Show dead items, with the last line of their command's output
    #[command(after_long_help = examples(&["queuectl dead list -q numbers", "queuectl dead list -q numbers -n 1000 --json"]))]
    List(Pagination),
    /// Make dead items ready again, and reset their count of attempts
    #[command(after_long_help = examples(&[
        "queuectl dead redrive -q numbers --all",
        "queuectl dead redrive -q numbers 5f0c6e3b9d2a417e0000000000000001",
    ]))]
    Redrive(DeadItems),
    /// Delete dead items for good
    #[command(after_long_help = examples(&[
        "queuectl dead delete -q numbers --all",
        "queuectl dead delete -q numbers 5f0c6e3b9d2a417e0000000000000001",
    ]))]
    Delete(DeadItems),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DeadItems {
    #[command(flatten)]
    pub(crate) which: QueueFlag,

    /// The ids of the items
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all", value_parser = parse_id)]
    pub(crate) ids: Vec<String>,

    /// Every dead item of the queue
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Configure {
    #[command(flatten)]
    pub(crate) which: QueueFlag,

    /// Expire a lease that is not extended for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) lease: Option<Duration>,

    /// Declare an item dead after this many attempts without success; 0: never
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,

    /// Wait this long before a failed item is retried; each further attempt doubles the wait
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) backoff: Option<Duration>,

    /// Wait at most this long before a failed item is retried
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) backoff_max: Option<Duration>,

    /// Refuse pushes beyond this many items; 0: no limit
    #[arg(long, value_name = "N")]
    pub(crate) max_items: Option<u64>,

    /// Refuse pushes beyond this many bytes of bodies; 0: no limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_bytes: Option<u64>,

    /// Remember a key for this long after its item is done
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) key_memory: Option<Duration>,

    /// Move dead items into this queue; empty: keep them in place
    #[arg(long, value_name = "NAME")]
    pub(crate) dead_letter_queue: Option<String>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() { Err("expected a duration above zero".to_owned()) } else { Ok(duration) }
}

fn parse_id(text: &str) -> Result<String, String> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("expected an item's id, 32 hex digits".to_owned())
    }
}
