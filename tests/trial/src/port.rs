//! A port that nobody else gets.

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt,
};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

/// A port that stays reserved for this test while nobody listens on it. Otherwise the system would give it to
/// the next connection of any process.
pub struct Port {
    pub address: SocketAddr,
    _bound: OwnedFd,
}

impl Port {
    /// Reserves a port of loopback, which a server of this host may listen on.
    pub fn reserve() -> Port {
        let bound = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&bound, sockopt::ReuseAddr, &true).unwrap();
        bind(bound.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        let address: SockaddrIn = getsockname(bound.as_raw_fd()).unwrap();
        Port { address: SocketAddrV4::from(address).into(), _bound: bound }
    }
}
