//! kvd's flags, and the list of those that a running daemon reloads.

use kit::disk::free_space::MinFree;
use kit::exit::{Exit, Fatal};
use kit::net::allow::Allowed;
use kit::net::tls::ServerFiles;
use kit::page::access::PageToken;
use kit::settings::help::examples;
use kit::settings::{Common, Door, parse_address, parse_duration, parse_size};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keeps keys and values, over HTTP. A write is on the disk before it is answered.
///
/// Besides /v1, it serves /save, /load and /allKeys, as the key/value server of the Kubernetes course did.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kvd", args_conflicts_with_subcommands = true, max_term_width = 110,
    after_long_help = examples(&[
        "kvd & kvctl put greeting hello && kvctl get greeting",
        "kvd --data /var/lib/kvd --http 127.0.0.1:8002",
        "kvd --data memory                                # the keys end with the process",
    ]))]
pub struct Flags {
    #[command(flatten)]
    pub serve: Serve,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Answer requests with 503 from now on, until `kvd resume`: for a preStop hook
    #[command(after_long_help = examples(&["kvd drain --data /data", "kvd drain --marker /run/kvd/down"]))]
    Drain(KeyPlace),
    /// Answer requests again: for a postStart hook
    #[command(after_long_help = examples(&["kvd resume --data /data", "kvd resume --marker /run/kvd/down"]))]
    Resume(KeyPlace),
}

/// The place of the keys, and of the marker that drains their server.
#[derive(Clone, Debug, clap::Args)]
pub struct KeyPlace {
    /// Keep the keys in this directory, or in `memory`: then they end with the process
    #[arg(long, value_name = "DIR|memory", default_value = "kvd-data", help_heading = "Keeping keys")]
    pub data: PathBuf,

    /// Answer 503 while this file exists; without it _shutting_down_ in the directory of --data
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub marker: Option<PathBuf>,
}

/// The name of the marker in the data directory, as the course's server has it.
const MARKER: &str = "_shutting_down_";

impl KeyPlace {
    /// Returns the directory; `None` for the keyword `memory`.
    pub fn directory(&self) -> Option<&Path> {
        Some(self.data.as_path()).filter(|data| data.as_os_str() != "memory")
    }

    /// Returns the marker's path. For keys in memory there is one only with `--marker`.
    pub fn marker(&self) -> Option<PathBuf> {
        self.marker.clone().or_else(|| Some(self.directory()?.join(MARKER)))
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Serve HTTP at this address: /v1, and /save, /load and /allKeys; `[::]` serves IPv4 and IPv6. A socket passed
    /// by systemd is used instead
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8002", value_parser = parse_address, help_heading = "Doors")]
    pub http: SocketAddr,

    /// Accept only these peers: networks, addresses, `local` (loopback, private, link-local) or `any`
    #[arg(
        long,
        value_name = "CIDR[,…]",
        default_value = "local",
        value_delimiter = ',',
        help_heading = "Doors"
    )]
    pub allow: Vec<Allowed>,

    /// Serve at most this many connections at once; others wait until one ends
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Doors")]
    pub max_connections: u16,

    /// Serve at most this many streams of changes at once; others are refused
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Doors")]
    pub max_watchers: u16,

    /// Require a bearer token from this file, which has a line `TOKEN read,write,admin [PREFIX,…]` for each. Changes are
    /// applied without a restart
    #[arg(long, value_name = "FILE", help_heading = "Doors")]
    pub tokens: Option<PathBuf>,

    #[command(flatten)]
    pub tls: ServerFiles,

    #[command(flatten)]
    pub place: KeyPlace,

    /// Refuse writes beyond this size of all keys and values, with 128 bytes for each key; without it 256MiB in memory and
    /// 16GiB on a disk
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Keeping keys")]
    pub max_bytes: Option<u64>,

    /// Keep this much of the disk free. Below it, keys can be deleted and replaced by smaller ones, and they expire, but
    /// writes that need more space are refused
    #[arg(long, value_name = "SIZE|PERCENT", default_value = "64MiB", help_heading = "Keeping keys")]
    pub min_free: MinFree,

    /// Limit the size of a value; no more than --max-request-bytes
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_body_size, help_heading = "Keeping keys")]
    pub max_value_bytes: usize,

    /// Limit the size of a batch's body, as it is sent: base64 makes a value a third longer
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = parse_body_size, help_heading = "Keeping keys")]
    pub max_request_bytes: usize,

    /// Keep this much of the last changes in memory, which watchers get when they connect again
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_body_size, help_heading = "Keeping keys")]
    pub watch_history: usize,

    /// Answer requests with 503 for this long after SIGTERM, until load balancers send no more
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration, help_heading = "Process")]
    pub linger: Duration,

    /// Serve metrics, probes and the page at a separate address, where a crowd of clients cannot delay them; or `none`.
    /// Probes are answered at the HTTP address in any case, metrics only without this
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Process")]
    pub admin: Option<Door>,

    #[command(flatten)]
    pub page: PageToken,

    #[command(flatten)]
    pub common: Common,
}

/// The settings that a running daemon reloads from a changed file.
pub const LIVE: [&str; 2] = ["allow", "log-level"];

/// The default limits on the bytes of all keys and values.
const MEMORY_BYTES_MAX: u64 = 256 << 20;
const DISK_BYTES_MAX: u64 = 16 << 30;

/// The minimum memory for the bodies of requests, and that for the bodies of answers.
const BODIES_BYTES_MIN: u64 = 32 << 20;

impl Serve {
    /// Returns the limit on the bytes of all keys and values.
    pub fn bytes_max(&self) -> u64 {
        let default = if self.place.directory().is_some() { DISK_BYTES_MAX } else { MEMORY_BYTES_MAX };
        self.max_bytes.unwrap_or(default)
    }

    /// Returns the memory for keys in memory, bodies, and the history of changes.
    pub fn memory_bytes_max(&self) -> u64 {
        let keys = if self.place.directory().is_some() { 0 } else { self.bytes_max() };
        let history = u64::try_from(self.watch_history).unwrap_or(u64::MAX);
        // Once for requests that are being received or committed, and once for answers that are being read.
        let bodies = self.bodies_bytes_max().saturating_mul(2);
        keys.saturating_add(bodies).saturating_add(history)
    }

    /// Returns the limit on the bodies of all requests together. Those of all answers have the same limit.
    pub fn bodies_bytes_max(&self) -> u64 {
        let four = u64::try_from(self.max_request_bytes).unwrap_or(u64::MAX).saturating_mul(4);
        four.max(BODIES_BYTES_MIN)
    }

    /// Rejects flags that contradict each other.
    pub fn check(&self) -> Result<(), Fatal> {
        if self.max_value_bytes > self.max_request_bytes {
            let message = format!(
                "--max-value-bytes {} is more than --max-request-bytes {}: raise --max-request-bytes or lower \
                 --max-value-bytes",
                self.max_value_bytes, self.max_request_bytes
            );
            return Err(Fatal::new(Exit::Usage, message));
        }
        self.common.check_linger(self.linger)
    }
}

fn parse_body_size(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        size @ 1..=0x4000_0000 => usize::try_from(size).map_err(|e| e.to_string()),
        _ => Err("from 1 byte to 1 GiB".to_owned()),
    }
}
