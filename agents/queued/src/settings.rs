//! queued's flags, and the list of those that a running daemon reloads.

use crate::commit::Durability;
use kit::exit::{Exit, Fatal};
use kit::net::allow::Allowed;
use kit::net::tls::ServerFiles;
use kit::settings::help::examples;
use kit::settings::{Common, Door, parse_address, parse_duration, parse_size};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Hands out work items to Jobs, over HTTP and to `nc`. An item is gone only when a worker acked it.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "queued", args_conflicts_with_subcommands = true, max_term_width = 110,
    after_long_help = examples(&[
        "queued & seq 3 | queuectl push -q work",
        "queued --http 127.0.0.1:8081 --line none --data /var/lib/queued",
        "queued --data memory --count-from 1           # `nc HOST 1080` prints the next number",
    ]))]
pub struct Flags {
    #[command(flatten)]
    pub serve: Serve,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Read a data directory or a backup, change nothing, and tell all damage
    #[command(after_long_help = examples(&["queued check queued-data", "queued check backup.tar && echo sound"]))]
    Check(CheckArgs),
    /// Keep what can be read of a damaged data directory; the old files are put aside
    #[command(after_long_help = examples(&["queued repair queued-data", "queued check q || queued repair q"]))]
    Repair(DataDirArgs),
    /// Write a backup of a data directory, also while its server runs
    #[command(after_long_help = examples(&["queued backup queued-data --to backup.tar", "queued backup queued-data --to - | gzip > backup.tar.gz"]))]
    Backup(BackupArgs),
    /// Make a data directory of a backup
    #[command(after_long_help = examples(&["queued restore backup.tar --data queued-data", "zcat backup.tar.gz | queued restore - --data queued-data"]))]
    Restore(RestoreArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The directory that --data names, or a backup; `-` for a backup on stdin
    pub path: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct DataDirArgs {
    /// The directory that --data names
    pub dir: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    /// The directory that --data names; nothing is written to it
    pub dir: PathBuf,

    /// The backup, a tar archive that replaces an older one when it is complete; `-` for stdout
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup; `-` for stdin
    pub file: PathBuf,

    /// The directory to make; it must be empty if it is there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Serve HTTP at this address, /v1 and /memq/server; `[::]` serves IPv4 and IPv6. Sockets passed by systemd are used
    /// instead, the first for HTTP, the second for lines
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080", value_parser = parse_address, help_heading = "Doors")]
    pub http: SocketAddr,

    /// Hand out one item per connection at this address, as bare bytes; or `none`
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:1080", help_heading = "Doors")]
    pub line: Door,

    /// The queue behind the line door
    #[arg(long, value_name = "NAME", default_value = "line", value_parser = parse_name, help_heading = "Doors")]
    pub line_queue: String,

    /// Let the queue behind the line door count for ever, beginning with N
    #[arg(long, value_name = "N", help_heading = "Doors")]
    pub count_from: Option<u64>,

    /// Put an item back if a line client has not read it within this time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration, help_heading = "Doors")]
    pub line_timeout: Duration,

    /// Peers that may connect: networks, addresses, `local` (loopback, private, link-local) or `any`
    #[arg(
        long,
        value_name = "CIDR[,…]",
        default_value = "local",
        value_delimiter = ',',
        help_heading = "Doors"
    )]
    pub allow: Vec<Allowed>,

    /// Connections at once, at each door; more wait until one ends
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Doors")]
    pub max_connections: u16,

    /// Ask for bearer tokens from this file, one `TOKEN push,work,admin` a line; changes are applied live
    #[arg(long, value_name = "FILE", help_heading = "Doors")]
    pub tokens: Option<PathBuf>,

    #[command(flatten)]
    pub tls: ServerFiles,

    /// The directory that items are kept in, or `memory`: then they end with the process
    #[arg(long, value_name = "DIR|memory", default_value = "queued-data", help_heading = "Keeping items")]
    pub data: PathBuf,

    /// When a push or ack is answered: `always` (it is on the disk), `none` (it is written), or a duration or
    /// `interval` (written, and on the disk within that time, 1s)
    #[arg(long, value_name = "WHEN", default_value = "always", value_parser = parse_durability, help_heading = "Keeping items")]
    pub durability: Durability,

    /// Memory for items; beyond it bodies lie on the disk only, or are refused with `--data memory`
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_memory, help_heading = "Keeping items")]
    pub max_memory: u64,

    /// Size of an item's body, as it is decoded, at most; no more than --max-request-bytes
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_item_size, help_heading = "Keeping items")]
    pub max_item_bytes: u64,

    /// Size of a request's body, as it is sent, at most: base64 makes an item a third longer
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_item_size, help_heading = "Keeping items")]
    pub max_request_bytes: u64,

    /// Queues at once
    #[arg(long, value_name = "N", default_value = "1024", value_parser = parse_queues, help_heading = "Keeping items")]
    pub max_queues: usize,

    /// Size of a log file; the log takes at least two
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_segment_bytes, help_heading = "Keeping items")]
    pub segment_bytes: u64,

    /// Give metrics and probes an address of their own, which a crowd of clients cannot delay, or `none`.
    /// Probes are answered at the HTTP door in any case, metrics only without this
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Process")]
    pub admin: Option<Door>,

    #[command(flatten)]
    pub common: Common,
}

/// The settings that a running daemon reloads from a changed file.
pub const LIVE: [&str; 2] = ["allow", "log-level"];

impl Serve {
    /// Refuses flags that contradict each other.
    pub fn check(&self) -> Result<(), Fatal> {
        if self.max_item_bytes <= self.max_request_bytes {
            return Ok(());
        }
        let message = format!(
            "--max-item-bytes {} is more than --max-request-bytes {}: an item of that size could not be pushed; \
             raise --max-request-bytes or lower --max-item-bytes",
            self.max_item_bytes, self.max_request_bytes
        );
        Err(Fatal::new(Exit::Usage, message))
    }
}

/// True for `memory`, which is a keyword and not a directory.
pub fn is_memory(serve: &Serve) -> bool {
    serve.data.as_os_str() == "memory"
}

fn parse_name(text: &str) -> Result<String, String> {
    crate::engine::policy::check_name(text).map(|()| text.to_owned())
}

fn parse_durability(text: &str) -> Result<Durability, String> {
    Durability::from_str(text)
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Durability, String> {
        match text {
            "always" => Ok(Durability::Always),
            "none" => Ok(Durability::None),
            "interval" => Ok(Durability::Interval(Duration::from_secs(1))),
            other => match parse_duration(other) {
                Ok(within) if within.is_zero() => Ok(Durability::Always),
                Ok(within) => Ok(Durability::Interval(within)),
                Err(_) => Err("expected always, interval, none or a duration such as 1s".to_owned()),
            },
        }
    }
}

fn parse_item_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size @ 1..=0x4000_0000 => Ok(size),
        _ => Err("from 1 byte to 1 GiB".to_owned()),
    }
}

/// Parses a size; below the minimum not even a hundred small items fit.
fn parse_memory(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size @ 0x1_0000.. => Ok(size),
        _ => Err("at least 64KiB".to_owned()),
    }
}

fn parse_queues(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(queues) => Ok(queues),
        Err(_) => Err("expected a number".to_owned()),
    }
}

fn parse_segment_bytes(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size @ 0x1_0000..=0x4000_0000 => Ok(size),
        _ => Err("from 64 KiB to 1 GiB".to_owned()),
    }
}
