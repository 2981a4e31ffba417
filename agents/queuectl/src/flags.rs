//! The settings of queuectl: what every subcommand takes, and what each one takes itself.

use crate::queue_name::QueueName;
use crate::wire::Until;
use kit::settings::{Common, parse_duration, parse_size};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Client and worker of queued: pushes items, and runs a command for each.
///
/// Each long flag is also an environment variable (QUEUECTL_QUEUE for --queue); the server is also taken from
/// QUEUE_URL.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "queuectl", mut_args(|arg| arg.global(true)),
    mut_arg("config", |arg| arg.help("Read settings from this TOML file at start; its keys are the long flag names")),
    mut_arg("tls_ca", |arg| arg.visible_alias("ca").help("The CA that signed an https server's certificate (PEM); without it the system's")))]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) task: Task,

    /// queued's HTTP door; without it $QUEUE_URL, else http://127.0.0.1:8080
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) server: Option<String>,

    /// The first line of this file is the bearer token; read anew for each request
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) token_file: Option<PathBuf>,

    /// Try again for this long while the server is away or full (run: for ever; push, seal, unseal, create: 1m; others: once)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Server")]
    pub(crate) give_up: Option<Duration>,

    /// Print JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) tls: kit::tls::ClientFiles,

    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Task {
    /// Run a command for each item until the queue is drained: the worker of a Job
    Run(Run),
    /// Push items: the arguments, else files, else the lines of a file or stdin
    Push(Push),
    /// Say that nothing more will be pushed
    Seal(Which),
    /// Take pushes again
    Unseal(Which),
    /// Remove what is ready and delayed
    Drain(Which),
    /// Show a queue, or all of them
    Stats(Stats),
    /// Look at items without taking them
    Peek(Peek),
    /// Items that failed too often
    #[command(subcommand)]
    Dead(Dead),
    /// List the queues' names
    Queues,
    /// Make a queue
    Create(Configure),
    /// Change a queue's settings; those not given keep their value
    Configure(Configure),
    /// Delete a queue with everything in it
    Delete(Which),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Which {
    /// The queue
    #[arg(short, long, value_name = "NAME")]
    pub(crate) queue: QueueName,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) which: Which,

    /// The command; it gets the item on stdin, in $ITEM, and in place of {} in its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    /// How many items to work on at once
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,

    /// How many items to lease with one request; they are worked on one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) batch: u32,

    /// Stop a command that takes longer; its item counts as failed
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) timeout: Option<Duration>,

    /// How long a command may take to end after SIGTERM, before SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) grace: Duration,

    /// How long a lease lasts without a sign of life, instead of the queue's own setting
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) lease: Option<Duration>,

    /// When to end with exit code 0
    #[arg(long, value_name = "STATE", default_value = "drained")]
    pub(crate) until: Until,

    /// Exit with 0 even if items died; without this flag the exit code is then 65
    #[arg(long)]
    pub(crate) allow_dead: bool,

    /// What to replace by the item in the command's arguments; empty: nothing
    #[arg(long, value_name = "WORD", default_value = "{}")]
    pub(crate) replace: OsString,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) which: Which,

    /// One item each
    #[arg(value_name = "ITEM", conflicts_with = "file")]
    pub(crate) items: Vec<OsString>,

    /// The content of each of these files is an item
    #[arg(short, long, value_name = "FILE", num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,

    /// The lines of this file are the items, instead of stdin's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["items", "file"])]
    pub(crate) lines: Option<PathBuf>,

    /// Items on stdin or in --lines end with a NUL byte instead of a newline
    #[arg(short = '0', long)]
    pub(crate) null: bool,

    /// Seal the queue in the same commit as the last item
    #[arg(long)]
    pub(crate) seal: bool,

    /// The key of the one item: pushed again with the same key it is still one item
    #[arg(long, value_name = "KEY", conflicts_with = "key_prefix")]
    pub(crate) key: Option<String>,

    /// Give the items the keys PREFIX-1, PREFIX-2, …: the same push repeated pushes nothing twice
    #[arg(long, value_name = "PREFIX")]
    pub(crate) key_prefix: Option<String>,

    /// No keys: a push whose answer was lost may be pushed twice
    #[arg(long, conflicts_with_all = ["key", "key_prefix"])]
    pub(crate) no_key: bool,

    /// Hold the items back for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) delay: Option<Duration>,

    /// Print the items' ids, one a line
    #[arg(long)]
    pub(crate) ids: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Stats {
    /// Only this queue
    #[arg(short, long, value_name = "NAME")]
    pub(crate) queue: Option<QueueName>,

    /// Again and again, until interrupted
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// How often to look with --watch
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    pub(crate) interval: Duration,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Page {
    #[command(flatten)]
    pub(crate) which: Which,

    /// How many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,

    /// Begin behind this item
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub(crate) after: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Peek {
    #[command(flatten)]
    pub(crate) page: Page,

    /// Only items in this state
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum State {
    Ready,
    Delayed,
    Leased,
    Dead,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Dead {
    /// Show them, with the last line of their command's output
    List(Page),
    /// Make them ready again, with no attempts counted
    Redrive(Chosen),
    /// Remove them for good
    Delete(Chosen),
}

/// Some items, or with --all every one.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Chosen {
    #[command(flatten)]
    pub(crate) which: Which,

    /// These items
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all", value_parser = parse_id)]
    pub(crate) ids: Vec<String>,

    /// Every dead item of the queue
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Configure {
    #[command(flatten)]
    pub(crate) which: Which,

    /// How long a lease lasts without a sign of life
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    pub(crate) lease: Option<Duration>,

    /// An item is dead after so many attempts; 0: never
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,

    /// How long a failed item is held back, doubling with each attempt
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) backoff: Option<Duration>,

    /// The most that it is held back
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) backoff_max: Option<Duration>,

    /// Refuse pushes beyond so many items; 0: no bound
    #[arg(long, value_name = "N")]
    pub(crate) max_items: Option<u64>,

    /// Refuse pushes beyond so many bytes of bodies; 0: no bound
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_bytes: Option<u64>,

    /// How long a key is remembered after its item is done
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) key_memory: Option<Duration>,

    /// Move dead items into this queue; empty: keep them
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
