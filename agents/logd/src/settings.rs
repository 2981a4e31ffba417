//! logd's flags, and which of them a running daemon can change.

use crate::file::rotation::Policy;
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

/// Takes log lines over TCP and keeps them in a file. A sender that half-closes and then reads the end of
/// the stream knows that everything it sent is in the file.
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
    /// Show what comes in, from whom, and onto what disk, as the page does
    #[command(after_long_help = examples(&[
        "logd stats --watch",
        "logd stats --admin 127.0.0.1:7667 --json",
    ]))]
    Stats(crate::stats::Options),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Take lines at this address; `[::]` serves IPv4 and IPv6. Sockets passed by systemd are used instead
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:6666", value_parser = parse_address, help_heading = "Taking lines")]
    pub listen: SocketAddr,

    /// Peers that may send: networks, addresses, `local` (loopback, private, link-local) or `any`
    #[arg(
        long,
        value_name = "CIDR[,…]",
        default_value = "local",
        value_delimiter = ',',
        help_heading = "Taking lines"
    )]
    pub allow: Vec<Allowed>,

    /// Connections at once; more wait until one ends
    #[arg(long, value_name = "N", default_value = "4096",
        value_parser = clap::value_parser!(u16).range(1..), help_heading = "Taking lines")]
    pub max_connections: u16,

    /// Longer lines are cut into pieces of this size, and counted
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_line_size, help_heading = "Taking lines")]
    pub max_line: u64,

    /// Memory for lines whose end has not come yet, over all connections
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, help_heading = "Taking lines")]
    pub max_held: u64,

    /// Reset connections idle for this long; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration, help_heading = "Taking lines")]
    pub idle_timeout: Duration,

    /// Probe a silent connection after this long, to find dead peers; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration, help_heading = "Taking lines")]
    pub keepalive: Duration,

    /// Expect a PROXY protocol header (version 1 or 2) on every connection, and name the peer in it instead of the proxy.
    /// Connections without one are reset. `--allow` is about the proxy
    #[arg(long, help_heading = "Taking lines")]
    pub proxy_protocol: bool,

    #[command(flatten)]
    pub tls: ServerFiles,

    /// The file that lines are appended to
    #[arg(long, value_name = "PATH", default_value = "node_log", help_heading = "Keeping lines")]
    pub file: PathBuf,

    /// Format of the lines in the file
    #[arg(long, value_name = "FORMAT", default_value = "raw", help_heading = "Keeping lines")]
    pub format: LineFormat,

    /// When lines are forced to the disk: `always` (before the receipt), `never`, or at the latest after this long
    #[arg(long, value_name = "WHEN", default_value = "1s", help_heading = "Keeping lines")]
    pub sync: SyncMode,

    /// Rotate the file before it grows beyond this; 0: never
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, help_heading = "Keeping lines")]
    pub rotate_bytes: u64,

    /// Rotate the file when it is this old and another line comes; 0s: never
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration, help_heading = "Keeping lines")]
    pub rotate_age: Duration,

    /// Rotated files to keep; 0: any number
    #[arg(long, value_name = "N", default_value = "16", help_heading = "Keeping lines")]
    pub keep_files: usize,

    /// Bytes of rotated files to keep; 0: any number
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size, help_heading = "Keeping lines")]
    pub keep_bytes: u64,

    /// Free space to leave on the file system: the oldest rotated files are removed for it, then nothing is taken
    #[arg(long, value_name = "SIZE|PERCENT", default_value = "0", help_heading = "Keeping lines")]
    pub min_free: MinFree,

    /// Leave rotated files uncompressed
    #[arg(long, help_heading = "Keeping lines")]
    pub no_gzip: bool,

    /// Address of probes, metrics and the page, which this host alone sees; or `none`
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7667", help_heading = "Process")]
    pub admin: Door,

    #[command(flatten)]
    pub page: PageToken,

    /// Show the newest lines on the page, too: to every user of this host, and to whoever has the page's token
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
    pub fn policy(&self) -> Policy {
        Policy {
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
