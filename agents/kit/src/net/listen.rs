//! Listening sockets: bound here, or passed by systemd. The runtime that serves a socket adopts it, since
//! another runtime often opened it.

use crate::exit::{Exit, Fatal};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpSocket;

/// The length of the accept queue. With the usual backlog of 5 to 128, two thousand clients that connected at
/// once lost up to 1,700 connections.
const BACKLOG: u32 = 4096;

/// Binds `address`. The unspecified IPv6 address serves both families, and falls back to IPv4 alone on
/// hosts without IPv6.
pub fn bind(address: SocketAddr) -> Result<TcpListener, Fatal> {
    let everywhere = address.ip() == Ipv6Addr::UNSPECIFIED;
    let bound = match listen(address) {
        Err(e) if everywhere && matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::AddrNotAvailable) => {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        // EAFNOSUPPORT has no `ErrorKind` of its own.
        Err(e) if everywhere && e.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    };
    bound.map_err(|e| {
        let (exit, hint) = match e.kind() {
            ErrorKind::AddrInUse => (Exit::Failure, " (another process has it; choose another port)"),
            ErrorKind::AddrNotAvailable => (Exit::Failure, " (this host does not have that address)"),
            ErrorKind::PermissionDenied => (Exit::System, " (ports below 1024 need CAP_NET_BIND_SERVICE)"),
            _ => (Exit::System, ""),
        };
        Fatal::new(exit, format!("cannot listen on {address}{hint}")).because(e)
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the last minute's connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Gives the socket to this runtime.
pub fn adopt(listener: TcpListener) -> Result<tokio::net::TcpListener, Fatal> {
    tokio::net::TcpListener::from_std(listener)
        .map_err(|e| Fatal::new(Exit::System, "cannot use a listening socket").because(e))
}

/// The sockets that systemd's socket activation passed to this process, in the unit's order. A second call
/// returns no sockets, since they already have an owner.
pub fn from_systemd() -> Result<Vec<TcpListener>, Fatal> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let refused =
        |e: std::io::Error| Fatal::new(Exit::System, "cannot use the sockets that systemd passed").because(e);
    let descriptors = sd_notify::listen_fds().map_err(refused)?;
    descriptors
        .map(|fd| {
            #[allow(unsafe_code, reason = "socket activation passes descriptors as bare numbers")]
            // SAFETY: LISTEN_PID named this very process, so systemd opened this descriptor for it, and TAKEN
            // lets only one caller ever make an owner of it.
            let listener = unsafe { TcpListener::from_raw_fd(fd) };
            listener.set_nonblocking(true).map_err(refused)?;
            Ok(listener)
        })
        .collect()
}
