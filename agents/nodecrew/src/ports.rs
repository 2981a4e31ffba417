//! The ports of `nodecrew up`: the well-known ones, others chosen by flags, or the next free ones.

use kit::exit::{Exit, Fatal};
use kit::net::browser_ports::is_blocked;
use kit::net::listen;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The number of ports after a taken one that are tried with `--any-port`.
const TRIED_MAX: u16 = 100;

#[derive(Clone, Debug, clap::Args)]
pub struct Ports {
    /// The port at which logd accepts lines
    #[arg(long, value_name = "PORT", default_value = "6666", value_parser = port(), help_heading = "Ports")]
    lines_port: u16,

    /// The port of logd's page, probes and metrics
    #[arg(long, value_name = "PORT", default_value = "7667", value_parser = port(), help_heading = "Ports")]
    logd_admin_port: u16,

    /// The port of logcd's page, probes and metrics
    #[arg(long, value_name = "PORT", default_value = "7668", value_parser = port(), help_heading = "Ports")]
    logcd_admin_port: u16,

    /// The port of queued's page, API, probes and metrics
    #[arg(long, value_name = "PORT", default_value = "8080", value_parser = port(), help_heading = "Ports")]
    http_port: u16,

    /// The port at which queued hands out one item per connection
    #[arg(long, value_name = "PORT", default_value = "1080", value_parser = port(), help_heading = "Ports")]
    line_port: u16,

    /// Use the next free port in place of one that is taken
    #[arg(long, help_heading = "Ports")]
    any_port: bool,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

/// The addresses that the crew listens on.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    pub lines: SocketAddr,
    pub logd_admin: SocketAddr,
    pub logcd_admin: SocketAddr,
    pub http: SocketAddr,
    pub line: SocketAddr,
}

impl Ports {
    /// Chooses a port for each endpoint before anything is started. If one is taken, the error names the flag
    /// that chooses another.
    pub fn endpoints(&self, address: IpAddr) -> Result<Endpoints, Fatal> {
        let mut chosen = Vec::new();
        let mut choose = |flag, port, shows_a_page| -> Result<SocketAddr, Fatal> {
            let endpoint = self.endpoint(flag, SocketAddr::new(address, port), shows_a_page, &chosen)?;
            chosen.push(endpoint);
            Ok(endpoint)
        };
        Ok(Endpoints {
            lines: choose("--lines-port", self.lines_port, false)?,
            logd_admin: choose("--logd-admin-port", self.logd_admin_port, true)?,
            logcd_admin: choose("--logcd-admin-port", self.logcd_admin_port, true)?,
            http: choose("--http-port", self.http_port, true)?,
            line: choose("--line-port", self.line_port, false)?,
        })
    }

    fn endpoint(
        &self,
        flag: &str,
        wanted: SocketAddr,
        shows_a_page: bool,
        taken: &[SocketAddr],
    ) -> Result<SocketAddr, Fatal> {
        let error = match try_out(wanted, taken) {
            Ok(()) => return Ok(wanted),
            Err(error) => error,
        };
        let tried = wanted.port()..=wanted.port().saturating_add(TRIED_MAX);
        let usable = tried.skip(1).filter(|port| !(shows_a_page && is_blocked(*port)));
        let mut others = usable.map(|port| SocketAddr::new(wanted.ip(), port));
        let other = others.find(|other| self.any_port && try_out(*other, taken).is_ok());
        other.ok_or_else(|| {
            let way_out = format!("; {flag} PORT chooses another port, --any-port the next free one");
            Fatal::new(error.exit(), error.one_line() + &way_out)
        })
    }
}

/// Binds the address to check that it is free, and releases it.
fn try_out(address: SocketAddr, taken: &[SocketAddr]) -> Result<(), Fatal> {
    if taken.contains(&address) {
        return Err(Fatal::new(Exit::Usage, format!("{address} is chosen twice")));
    }
    listen::bind(address).map(drop)
}

impl Endpoints {
    /// Returns the addresses as they are opened on this host, since nobody can connect to `[::]`.
    pub fn to_open(self) -> Endpoints {
        Endpoints {
            lines: to_open(self.lines),
            logd_admin: to_open(self.logd_admin),
            logcd_admin: to_open(self.logcd_admin),
            http: to_open(self.http),
            line: to_open(self.line),
        }
    }
}

fn to_open(mut address: SocketAddr) -> SocketAddr {
    // A socket on all IPv6 addresses also accepts IPv4.
    if address.ip() == Ipv4Addr::UNSPECIFIED || address.ip() == Ipv6Addr::UNSPECIFIED {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}
