//! A port that nobody else gets.

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, getsockname, setsockopt,
    socket, sockopt,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
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
        let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        let (bound, address) = bind_any_port(AddressFamily::Inet, &any);
        Port { address: SocketAddrV4::from(address).into(), _bound: bound }
    }

    /// Reserves a port of all addresses of this host. A connection from any of them would otherwise keep a
    /// server from listening on `[::]`.
    pub fn reserve_on_all_addresses() -> Port {
        let any = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        let (bound, address) = bind_any_port(AddressFamily::Inet6, &any);
        Port { address: SocketAddrV6::from(address).into(), _bound: bound }
    }
}

/// Returns a socket that is bound but does not listen, and its address.
fn bind_any_port<A: SockaddrLike>(family: AddressFamily, any: &A) -> (OwnedFd, A) {
    let bound = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    // With it on both sockets, the server may bind the same port.
    setsockopt(&bound, sockopt::ReuseAddr, &true).unwrap();
    bind(bound.as_raw_fd(), any).unwrap();
    let address = getsockname(bound.as_raw_fd()).unwrap();
    (bound, address)
}
