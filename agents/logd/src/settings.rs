//! logd's flags, and which of them a running daemon can change.

use crate::file::rotation::RotationPolicy;
use crate::line_format::LineFormat;
use kit::disk::free_space::MinFree;
use kit::net::allow::Allowed;
use kit::net::tls::ServerFiles;
use kit::page::access::PageToken;
use kit::settings::help::examples;
use kit::settings::{Common, Door, parse_address, parse_duration, parse_size};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Accepts log lines over TCP and appends them to a file. A sender that half-closes the connection and then
/// reads end of stream knows that everything it sent is in the file.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "logd", args_conflicts_with_subcommands = true, max_term_width = 110,
    after_long_help = examples(&[
        "logd & echo hello | logsend && cat node_log",
        "logd --listen 127.0.0.1:7777 --admin none --format stamped --sync always",
        "logd --file /var/log/node.log --rotate-bytes 16MiB --keep-files 8",
    ]))]
pub struct Flags {
    #[command(flatten)]
    pub serve: Serve,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Print the log, rotated files first, in the order in which it was written
    #[command(after_long_help = examples(&[
        "logd read --since 2h",
        "logd read --file /var/log/logd/node.log --grep 'error|warning'",
        "logd read --follow",
    ]))]
    Read(crate::read::Options),
    /// Show the page's figures in the terminal: throughput, senders, file and disk
    #[command(after_long_help = examples(&[
        "logd stats --watch",
        "logd stats --admin 127.0.0.1:7667 --json",
    ]))]
    Stats(crate::stats::Options),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Accept lines at this address; `[::]` serves IPv4 and IPv6. A socket passed by systemd replaces it
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:6666", value_parser = parse_address, help_heading = "Receiving lines")]
    pub listen: SocketAddr,

    /// Accept only these peers: networks, addresses, `local` (loopback, private, link-local) or `any`
    #[arg(
        long,
        value_name = "CIDR[,…]",
        default_value = "local",
        value_delimiter = ',',
        help_heading = "Receiving lines"
    )]
    pub allow: Vec<Allowed>,

    /// Serve at most this many connections at once; others wait until one ends
    #[arg(long, value_name = "N", default_value = "4096",
        value_parser = clap::value_parser!(u16).range(1..), help_heading = "Receiving lines")]
    pub max_connections: u16,

    /// Cut longer lines into pieces of this size, and count the cuts
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_line_size, help_heading = "Receiving lines")]
    pub max_line: u64,

    /// Limit the memory for unfinished lines, summed over all connections
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, help_heading = "Receiving lines")]
    pub max_held: u64,

    /// Reset connections idle for this long; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration, help_heading = "Receiving lines")]
    pub idle_timeout: Duration,

    /// Send TCP keepalive probes after this much silence, to find dead peers; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration, help_heading = "Receiving lines")]
    pub keepalive: Duration,

    /// Require a PROXY protocol header (version 1 or 2) on every connection. The peer that it names is
    /// recorded as the sender, while `--allow` is checked against the proxy. Connections without a header are
    /// reset
    #[arg(long, help_heading = "Receiving lines")]
    pub proxy_protocol: bool,

    #[command(flatten)]
    pub tls: ServerFiles,

    /// Append lines to this file
    #[arg(long, value_name = "PATH", default_value = "node_log", help_heading = "Storing lines")]
    pub file: PathBuf,

    /// Format of the lines in the file
    #[arg(long, value_name = "FORMAT", default_value = "raw", help_heading = "Storing lines")]
    pub format: LineFormat,

    /// When to sync lines to the disk (fsync): `always` (before each receipt), `never`, or within this time
    /// after the write
    #[arg(long, value_name = "WHEN", default_value = "1s", help_heading = "Storing lines")]
    pub sync: SyncMode,

    /// Rotate the file before it grows beyond this size; 0: never
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, help_heading = "Storing lines")]
    pub rotate_bytes: u64,

    /// Rotate the file when it is this old and another line arrives; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration, help_heading = "Storing lines")]
    pub rotate_age: Duration,

    /// Keep at most this many rotated files; 0: no limit
    #[arg(long, value_name = "N", default_value = "16", help_heading = "Storing lines")]
    pub keep_files: usize,

    /// Keep at most this many bytes of rotated files; 0: no limit
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size, help_heading = "Storing lines")]
    pub keep_bytes: u64,

    /// Keep this much of the file system free. The oldest rotated files are removed to make room; if that is
    /// not enough, no lines are read until there is room
    #[arg(long, value_name = "SIZE|PERCENT", default_value = "0", help_heading = "Storing lines")]
    pub min_free: MinFree,

    /// Do not compress rotated files
    #[arg(long, help_heading = "Storing lines")]
    pub no_gzip: bool,

    /// Serve probes, metrics and the page at this address; or `none`. Without --page-token only this host can
    /// open the page
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7667", help_heading = "Process")]
    pub admin: Door,

    #[command(flatten)]
    pub page: PageToken,

    /// Show the newest lines on the page: to every user of this host, or with --page-token to everyone who has
    /// the token
    #[arg(long, help_heading = "Process")]
    pub show_lines: bool,

    #[command(flatten)]
    pub common: Common,
}

/// The settings that a running daemon takes over from a changed file.
pub const LIVE: [&str; 9] = [
    "allow",
    "max-line",
    "idle-timeout",
    "rotate-bytes",
    "rotate-age",
    "keep-files",
    "keep-bytes",
    "min-free",
    "log-level",
];

impl Serve {
    pub fn policy(&self) -> RotationPolicy {
        RotationPolicy {
            rotate_bytes: self.rotate_bytes,
            rotate_age: self.rotate_age,
            keep_files: self.keep_files,
            keep_bytes: self.keep_bytes,
            min_free: self.min_free,
        }
    }

    pub fn line_bytes_max(&self) -> usize {
        usize::try_from(self.max_line).unwrap_or(usize::MAX)
    }
}

/// The time at which lines are forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    Never,
    Within(Duration),
    Always,
}

/// Sync interval under `always` for connections that stay open: no receipt of theirs forces an earlier sync.
const SYNC_OPEN_CONNECTIONS_WITHIN: Duration = Duration::from_secs(1);

impl SyncMode {
    /// Returns the time after a write within which it is synced.
    pub fn within(self) -> Option<Duration> {
        match self {
            SyncMode::Never => None,
            SyncMode::Always => Some(SYNC_OPEN_CONNECTIONS_WITHIN),
            SyncMode::Within(interval) => Some(interval),
        }
    }
}

impl FromStr for SyncMode {
    type Err = String;
    fn from_str(text: &str) -> Result<SyncMode, String> {
        match text {
            "never" => Ok(SyncMode::Never),
            "always" => Ok(SyncMode::Always),
            other => parse_duration(other)
                .map(|within| if within.is_zero() { SyncMode::Always } else { SyncMode::Within(within) })
                .map_err(|_| "expected always, never or a duration such as 1s".to_owned()),
        }
    }
}

fn parse_line_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a line needs at least 1 byte".to_owned()),
        size => Ok(size),
    }
}
