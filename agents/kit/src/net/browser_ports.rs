//! The ports that browsers refuse to open. A page on one of them cannot be seen: Chrome answers
//! `ERR_UNSAFE_PORT`.

use std::net::SocketAddr;

/// The bad ports of the Fetch standard. Chrome and Firefox block exactly these.
const BLOCKED: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// True if browsers refuse to open a page on this port.
pub fn is_blocked(port: u16) -> bool {
    BLOCKED.binary_search(&port).is_ok()
}

/// Warns that the page at this address cannot be opened. `flag` is the flag that chooses another port.
pub fn warn_if_blocked(flag: &'static str, address: SocketAddr) {
    if is_blocked(address.port()) {
        tracing::warn!(
            event = "port_blocked_by_browsers",
            %address,
            flag,
            "browsers block this port: the page does not open in them; probes and other clients are not affected"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_ports_are_sorted() {
        assert!(BLOCKED.is_sorted());
        for port in [6665, 6666, 6667, 6668, 6669, 10080] {
            assert!(is_blocked(port), "{port}");
        }
        for port in [80, 443, 1080, 7667, 7668, 7669, 8080] {
            assert!(!is_blocked(port), "{port}");
        }
    }
}
