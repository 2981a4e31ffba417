//! The settings of kvctl: those that every subcommand shares, and those of each subcommand.

use crate::placement::Placement;
use kit::settings::help::{examples, shared};
use kit::settings::{Common, parse_nonzero_duration};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Client of kvd: reads, changes and watches keys.
///
/// Each long flag is also an environment variable (KVCTL_SERVER for --server). KVD_URL names the server as well.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kvctl", mut_args(|arg| shared(arg).global(true)),
    after_long_help = examples(&[
        "kvctl put greeting hello && kvctl get greeting",
        "kvctl put logo -f logo.png",
        "kvctl watch jobs/",
    ]),
    mut_arg("config", |arg| arg.help("Read settings from this TOML file at start; its keys are the long flag names")),
    mut_arg("tls_ca", |arg| arg.visible_alias("ca").help("The CA that signed an https server's certificate (PEM); without it the system's")))]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// The URL of kvd; without it $KVD_URL, else http://127.0.0.1:8002
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Send the bearer token in this file, which is read again for each request
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

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
    /// Print the value of a key, byte for byte
    ///
    /// Exit codes of all commands: 0; 1, it cannot be done, such as a key that does not exist; 64 and 78, a bad flag or
    /// configuration; 65, a condition failed; 75, try again later.
    #[command(after_long_help = examples(&["kvctl get greeting", "kvctl get logo > logo.png", "kvctl get greeting --json"]))]
    Get(Get),
    /// Set the value of a key: the argument, else a file, else stdin
    #[command(after_long_help = examples(&[
        "kvctl put greeting hello",
        "date | kvctl put last-run",
        "kvctl put leader \"$HOSTNAME\" --if-absent --ttl 30s    # take a lease",
    ]))]
    Put(Put),
    /// Delete keys
    #[command(after_long_help = examples(&["kvctl delete greeting", "kvctl delete jobs/1 jobs/2"]))]
    Delete(Delete),
    /// Print the keys that begin with a prefix, in order
    #[command(after_long_help = examples(&["kvctl list", "kvctl list jobs/ --values", "kvctl list jobs/ --json"]))]
    List(List),
    /// Print changes as they are made; a connection that breaks is resumed without a gap
    #[command(after_long_help = examples(&["kvctl watch", "kvctl watch jobs/ --json", "kvctl watch jobs/ -n 1"]))]
    Watch(Watch),
    /// Set the value of a key if it has the old value now; else the exit code is 65
    #[command(after_long_help = examples(&[
        "kvctl cas counter --old 41 --new 42",
        "kvctl cas config --old-file config.old --new-file config.new",
        "kvctl cas leader --old \"$HOSTNAME\" --new \"$HOSTNAME\" --ttl 30s    # renew a lease",
    ]))]
    Cas(Cas),
    /// Copy all keys as they are at one moment
    #[command(after_long_help = examples(&["kvctl backup --to kvd.jsonl", "kvctl backup | gzip > kvd.jsonl.gz"]))]
    Backup(Backup),
    /// Set all keys of a backup
    #[command(after_long_help = examples(&["kvctl restore kvd.jsonl", "zcat kvd.jsonl.gz | kvctl restore -"]))]
    Restore(Restore),
    /// Move each key to its server after the number of servers has changed, while clients use them
    ///
    /// Keys move in batches. A killed run can be repeated at any time. Notes of unfinished moves are keys that begin with
    /// _moving_/ and _moved_/.
    #[command(after_long_help = examples(&[
        "kvctl rebalance server-0.server,server-1.server server-0.server,server-1.server,server-2.server",
        "kvctl rebalance a:8002,b:8002 a:8002 --keep target",
    ]))]
    Rebalance(Rebalance),
    /// Keep the letters a to z in servers, and print every two seconds how each is found, as the client of the Kubernetes course does
    ///
    /// h hit, w written, m missing (with --readonly), x another value, . no connection, else the first digit of the
    /// status, such as 5.
    #[command(after_long_help = examples(&[
        "kvctl watch-letters server-0.server,server-1.server,server-2.server",
        "kvctl watch-letters 127.0.0.1:1080 --readonly",
    ]))]
    WatchLetters(WatchLetters),
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Get {
    /// The key
    pub(crate) key: String,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Put {
    /// The key
    pub(crate) key: String,

    /// The value; without it, and without --file, stdin
    #[arg(value_name = "VALUE", conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) value: Option<OsString>,

    /// The value is the content of this file; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Let the key expire after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_nonzero_duration)]
    pub(crate) ttl: Option<Duration>,

    /// Only if the key has this revision
    #[arg(long, value_name = "REVISION", conflicts_with = "if_absent")]
    pub(crate) if_match: Option<u64>,

    /// Only if the key does not exist
    #[arg(long)]
    pub(crate) if_absent: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Delete {
    /// The keys
    #[arg(value_name = "KEY", required = true)]
    pub(crate) keys: Vec<String>,

    /// Only if the key has this revision
    #[arg(long, value_name = "REVISION")]
    pub(crate) if_match: Option<u64>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct List {
    /// Only keys that begin with this
    #[arg(value_name = "PREFIX", default_value = "")]
    pub(crate) prefix: String,

    /// Print a tab and the value after each key, escaped so that it is one line
    #[arg(long)]
    pub(crate) values: bool,

    /// Print at most this many keys
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,

    /// Start after this key
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Watch {
    /// Only keys that begin with this
    #[arg(value_name = "PREFIX", default_value = "")]
    pub(crate) prefix: String,

    /// Start after this revision; without it, now
    #[arg(long, value_name = "REVISION")]
    pub(crate) after: Option<u64>,

    /// End after this many changes
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Cas {
    /// The key
    pub(crate) key: String,

    #[command(flatten)]
    pub(crate) old: Old,

    #[command(flatten)]
    pub(crate) new: New,

    /// Let the key expire after this time; without it, the new value does not expire
    #[arg(long, value_name = "DURATION", value_parser = parse_nonzero_duration)]
    pub(crate) ttl: Option<Duration>,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Old {
    /// The value that the key must have
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) old: Option<OsString>,

    /// The value that the key must have is the content of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) old_file: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct New {
    /// The new value
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) new: Option<OsString>,

    /// The new value is the content of this file; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) new_file: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Backup {
    /// The file to make, which replaces an older one when it is complete; `-` is stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) to: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup; `-` is stdin
    pub(crate) file: PathBuf,

    /// Restore into a server that has keys; those that the backup does not have stay
    #[arg(long)]
    pub(crate) merge: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Rebalance {
    /// The servers that have the keys now: HOST, HOST:PORT or a URL
    #[arg(value_name = "AS_IS[,…]", num_args = 1, value_delimiter = ',', required = true)]
    pub(crate) as_is: Vec<String>,

    /// The servers that are to have them, in the order that clients know
    #[arg(value_name = "TO_BE[,…]", num_args = 1, value_delimiter = ',', required = true)]
    pub(crate) to_be: Vec<String>,

    /// The rule by which clients choose a key's server
    #[arg(long, value_name = "RULE", default_value = "first")]
    pub(crate) placement: Placement,

    /// The value to keep if a key has different values on the two servers; without it such keys stay as they are
    #[arg(long, value_name = "WHICH")]
    pub(crate) keep: Option<Keep>,
}

/// The value to keep, by its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Keep {
    Source,
    Target,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WatchLetters {
    /// The servers: HOST, HOST:PORT or a URL. A letter's server is its code modulo the number of servers
    #[arg(value_name = "SERVER[,…]", value_delimiter = ',', required = true)]
    pub(crate) servers: Vec<String>,

    /// Write nothing
    #[arg(long)]
    pub(crate) readonly: bool,

    /// End after this many lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<usize>,

    /// Time between two lines
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = kit::settings::parse_duration)]
    pub(crate) interval: Duration,
}
