//! The allow-list: peers that may connect.

use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

/// Networks that only a host or its own site uses: loopback, private, carrier-grade NAT (where some clouds
/// put their pods) and link-local.
const LOCAL: [&str; 9] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// One word of `--allow`: a network, an address, `local` or `any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

impl FromStr for Allowed {
    type Err = String;

    fn from_str(word: &str) -> Result<Allowed, String> {
        let networks = match word {
            "any" => vec!["0.0.0.0/0", "::/0"],
            "local" => LOCAL.to_vec(),
            other => vec![other],
        };
        networks
            .into_iter()
            .map(network)
            .collect::<Option<_>>()
            .map(Allowed)
            .ok_or_else(|| "expected a network such as 10.0.0.0/8, an address, local or any".to_owned())
    }
}

/// Parses the address twice, since the networks' parser alone accepts invalid ones such as
/// `2b::2E81:8:2E81:8:01:0101:C/32`.
fn network(text: &str) -> Option<IpNet> {
    let address: IpAddr = text.split('/').next()?.parse().ok()?;
    let network = if text.contains('/') { text.parse().ok()? } else { address.into() };
    Some(canonical(network))
}

/// Turns an IPv4 network written as IPv6 into the IPv4 network, since its peers are looked up as IPv4.
fn canonical(network: IpNet) -> IpNet {
    let short = network.prefix_len().checked_sub(96);
    match (network.addr().to_canonical(), short) {
        (address @ IpAddr::V4(_), Some(short)) => IpNet::new(address, short).unwrap_or(network),
        _ => network,
    }
}

/// The whole list, checked once per connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

impl AllowList {
    pub fn new(words: &[Allowed]) -> AllowList {
        AllowList(words.iter().flat_map(|word| word.0.iter().copied()).collect())
    }

    /// True if this peer may connect. An IPv4 peer that reached a dual-stack socket counts as an IPv4
    /// address.
    pub fn permits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> AllowList {
        AllowList::new(&words.iter().map(|w| w.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn local_is_every_private_range() {
        let local = list(&["local"]);
        for inside in [
            "127.0.0.1",
            "10.244.1.7",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.9",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(local.permits(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "100.128.0.1"] {
            assert!(!local.permits(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn networks_add_up() {
        let some = list(&["192.0.2.7", "2001:db8::/32"]);
        assert!(some.permits("192.0.2.7".parse().unwrap()) && some.permits("2001:db8::9".parse().unwrap()));
        assert!(!some.permits("127.0.0.1".parse().unwrap()));
        assert!(list(&["any"]).permits("8.8.8.8".parse().unwrap()));
        assert!(list(&["::ffff:10.0.0.0/104"]).permits("10.9.9.9".parse().unwrap()));
        assert!(!list(&["::ffff:10.0.0.1"]).permits("10.0.0.2".parse().unwrap()));
        for nonsense in ["10.0.0.0/33", "10.0.0.0/+8", "everyone", "2b::2E81:8:2E81:8:01:0101:C/32"] {
            assert!(nonsense.parse::<Allowed>().is_err(), "{nonsense}");
        }
    }
}
