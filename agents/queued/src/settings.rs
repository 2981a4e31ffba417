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

/// Hands out work items to Jobs, over HTTP and to plain TCP clients such as `nc`. An item is removed only
/// after a worker has acked it.
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
    /// List all damage in a data directory or a backup; nothing is changed
    #[command(after_long_help = examples(&["queued check queued-data", "queued check backup.tar && echo sound"]))]
    Check(CheckArgs),
    /// Rebuild a damaged data directory from what can be read; the old files are moved into a subdirectory
    #[command(after_long_help = examples(&["queued repair queued-data", "queued check q || queued repair q"]))]
    Repair(DataDirArgs),
    /// Write a backup of a data directory; its server may keep running
    #[command(after_long_help = examples(&["queued backup queued-data --to backup.tar", "queued backup queued-data --to - | gzip > backup.tar.gz"]))]
    Backup(BackupArgs),
    /// Create a data directory from a backup
    #[command(after_long_help = examples(&["queued restore backup.tar --data queued-data", "zcat backup.tar.gz | queued restore - --data queued-data"]))]
    Restore(RestoreArgs),
}

#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The data directory (the server's --data) or a backup; `-` for a backup on stdin
    pub path: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct DataDirArgs {
    /// The data directory: the server's --data
    pub dir: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    /// The data directory: the server's --data. Nothing is written to it
    pub dir: PathBuf,

    /// Write the backup, a tar archive, to this file; `-` for stdout. An existing file is replaced only when
    /// the backup is complete
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup; `-` for stdin
    pub file: PathBuf,

    /// Create this directory; if it exists, it must be empty
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Serve HTTP (/v1 and /memq/server) at this address; `[::]` serves IPv4 and IPv6. Sockets passed by
    /// systemd replace the addresses: the first is for HTTP, the second for --line
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080", value_parser = parse_address, help_heading = "Listening")]
    pub http: SocketAddr,

    /// Hand out one item per TCP connection at this address, as raw bytes; or `none`
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:1080", help_heading = "Listening")]
    pub line: Door,

    /// Hand out the items of this queue at --line
    #[arg(long, value_name = "NAME", default_value = "line", value_parser = parse_name, help_heading = "Listening")]
    pub line_queue: String,

    /// Let the --line queue count: it hands out N, N+1, N+2, … without end
    #[arg(long, value_name = "N", help_heading = "Listening")]
    pub count_from: Option<u64>,

    /// Requeue an item if a --line client has not read it within this time
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration, help_heading = "Listening")]
    pub line_timeout: Duration,

    /// Accept only these peers: networks, addresses, `local` (loopback, private, link-local) or `any`
    #[arg(
        long,
        value_name = "CIDR[,…]",
        default_value = "local",
        value_delimiter = ',',
        help_heading = "Listening"
    )]
    pub allow: Vec<Allowed>,

    /// Serve at most this many connections at once, at --http and --line each; others wait until one ends
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Listening")]
    pub max_connections: u16,

    /// Require a bearer token from this file, which has a line `TOKEN push,work,admin` for each. Changes are
    /// applied without a restart
    #[arg(long, value_name = "FILE", help_heading = "Listening")]
    pub tokens: Option<PathBuf>,

    #[command(flatten)]
    pub tls: ServerFiles,

    /// Store items in this directory. With `memory` they are lost when the process ends
    #[arg(long, value_name = "DIR|memory", default_value = "queued-data", help_heading = "Storing items")]
    pub data: PathBuf,

    /// When to answer a push or ack: `always` (after a sync to the disk), `none` (after the write), or a
    /// duration (after the write, with a sync within that time). `interval` means 1s
    #[arg(long, value_name = "WHEN", default_value = "always", value_parser = parse_durability, help_heading = "Storing items")]
    pub durability: Durability,

    /// Limit the memory for items. Beyond it bodies are kept on the disk only; with `--data memory` pushes
    /// are refused
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_memory, help_heading = "Storing items")]
    pub max_memory: u64,

    /// Limit the size of an item's decoded body; no more than --max-request-bytes
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_item_size, help_heading = "Storing items")]
    pub max_item_bytes: u64,

    /// Limit the size of a request's body as it is sent; base64 makes an item a third longer
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_item_size, help_heading = "Storing items")]
    pub max_request_bytes: u64,

    /// Allow at most this many queues
    #[arg(long, value_name = "N", default_value = "1024", value_parser = parse_queues, help_heading = "Storing items")]
    pub max_queues: usize,

    /// Size of a segment, a file of the log on disk; the log has at least two
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_segment_bytes, help_heading = "Storing items")]
    pub segment_bytes: u64,

    /// Serve metrics and probes at a separate address, where a crowd of clients cannot delay them; or `none`.
    /// Metrics are then no longer served at --http; probes are served there in any case
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
