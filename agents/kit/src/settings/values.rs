//! Values that several agents take: addresses, durations and sizes.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

/// An address, or `none` for an endpoint that is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door(pub Option<SocketAddr>);

impl std::str::FromStr for Door {
    type Err = String;
    fn from_str(text: &str) -> Result<Door, String> {
        if text == "none" {
            return Ok(Door(None));
        }
        parse_address(text)
            .map(|address| Door(Some(address)))
            .map_err(|expected| format!("{expected}, or none"))
    }
}

/// An address to listen on. `:7667` and `7667` mean all addresses of this host, as in Go and nginx.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    let everywhere = port.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    everywhere.or_else(|_| text.parse()).map_err(|_| {
        "expected ADDRESS:PORT, such as 127.0.0.1:7667, or :7667 for all addresses of this host".to_owned()
    })
}

/// Parses `25s`, `1h 30m`, `500ms`. A bare number is rejected, since its unit is ambiguous.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration such as 500ms, 15s or 7d".to_owned())
}

/// Parses a duration above zero.
pub fn parse_nonzero_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected a duration above zero, such as 15s".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses `64MiB`, `1GB`, `4096`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| "expected a size such as 64KiB, 1MiB or 4096".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_duration_is_rejected() {
        assert_eq!(parse_nonzero_duration("1ms"), Ok(Duration::from_millis(1)));
        for text in ["0s", "0ms", "5"] {
            assert!(parse_nonzero_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn port_alone_is_every_address() {
        let address = |text| parse_address(text).map(|address| address.to_string());
        for (given, meant) in [
            (":7777", "[::]:7777"),
            ("7777", "[::]:7777"),
            ("127.0.0.1:7777", "127.0.0.1:7777"),
            ("[::1]:7777", "[::1]:7777"),
        ] {
            assert_eq!(address(given), Ok(meant.to_owned()), "{given}");
            assert_eq!(given.parse(), Ok(Door(meant.parse().ok())), "{given}");
        }
        for nonsense in ["", ":", "70000", ":70000", "127.0.0.1", "here:7777", "::7777", "-1"] {
            let expected = address(nonsense).unwrap_err();
            assert!(expected.contains("127.0.0.1:7667") && expected.contains(":7667 for all"), "{expected}");
            let expected = nonsense.parse::<Door>().unwrap_err();
            assert!(expected.ends_with("or none"), "{expected}");
        }
    }
}
