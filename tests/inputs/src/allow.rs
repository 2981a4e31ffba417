//! Checks that every accepted word of `--allow` permits the addresses that it names, and that a listener's
//! address parses back from its text.

use kit::net::allow::{AllowList, Allowed};
use kit::settings::Door;
use std::net::IpAddr;

pub fn allow(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(door) = text.parse::<Door>() {
        let again = door.0.map_or("none".to_owned(), |address| address.to_string());
        assert_eq!(again.parse(), Ok(door));
    }
    let Ok(allowed) = text.parse::<Allowed>() else { return };
    let list = AllowList::new(&[allowed]);
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return assert!(matches!(text, "any" | "local"), "{text:?} was taken");
    };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(whole, |length| length.parse().unwrap());
    // A prefix of IPv6 with all of IPv4 in it; but peers with an IPv4 address count as IPv4.
    if address.is_ipv6() && address.to_canonical().is_ipv4() && length < 96 {
        return assert!(!list.permits(address), "{text:?} permits IPv4");
    }
    assert!(list.permits(address), "{text:?} does not permit its own address");
    for bit in 0..whole {
        let neighbour = flip(address, bit);
        // An IPv4 address within IPv6 is the IPv4 address.
        if neighbour.to_canonical().is_ipv4() == address.to_canonical().is_ipv4() {
            assert_eq!(list.permits(neighbour), bit >= length, "{neighbour} by {text:?}");
        }
    }
}

/// Returns the address with one bit changed, counted from the first.
fn flip(address: IpAddr, bit: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::from((address.to_bits() ^ 1 << (31 - bit)).to_be_bytes()),
        IpAddr::V6(address) => IpAddr::from((address.to_bits() ^ 1 << (127 - bit)).to_be_bytes()),
    }
}
