//! rng's flags, and the list of those that a running daemon reloads.

use kit::exit::Fatal;
use kit::net::allow::Allowed;
use kit::settings::help::examples;
use kit::settings::{Common, Door, parse_address, parse_duration};
use std::net::SocketAddr;
use std::time::Duration;

/// Answers HTTP requests with random bytes, and says which node and pod answered.
///
/// `GET /` greets, `GET /N` returns N random bytes, up to 1 MiB. Do not make keys from these bytes.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "rng", after_long_help = examples(&[
    "rng --http 127.0.0.1:8001 & curl -s 127.0.0.1:8001/32 | od -An -tx1",
    "rng --delay 100ms --serial                           # at most ten answers a second",
]))]
pub struct Flags {
    /// Serve HTTP at this address; `[::]` serves IPv4 and IPv6
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8001", value_parser = parse_address)]
    pub http: SocketAddr,

    /// Wait this long before each answer with random bytes
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub delay: Duration,

    /// Answer one request at a time, in order of arrival
    #[arg(long)]
    pub serial: bool,

    /// Accept only these peers: networks, addresses, `local` (loopback, private, link-local) or `any`
    #[arg(long, value_name = "CIDR[,…]", default_value = "local", value_delimiter = ',')]
    pub allow: Vec<Allowed>,

    /// Serve at most this many connections at once; others wait until one ends
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_connections: u16,

    /// Keep accepting requests for this long after SIGTERM, until load balancers send no more
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub linger: Duration,

    /// Serve metrics and probes at a separate address, where a crowd of clients cannot delay them; or `none`.
    /// Metrics are then no longer served at --http; probes are served there in any case
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<Door>,

    #[command(flatten)]
    pub common: Common,
}

/// The settings that a running daemon reloads from a changed file.
pub const LIVE: [&str; 3] = ["allow", "delay", "log-level"];

impl Flags {
    /// Refuses flags that contradict each other.
    pub fn check(&self) -> Result<(), Fatal> {
        self.common.check_linger(self.linger)
    }
}
