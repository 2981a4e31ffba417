//! A sender that knows how it was told goodbye.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::str::FromStr;
use trial::DEADLINE;

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects from one of the loopback addresses.
pub(crate) fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    use nix::sys::socket::{bind, connect, socket};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::from_str(&format!("{source}:0")).unwrap()).unwrap();
    connect(socket.as_raw_fd(), &SockaddrIn::from_str(&address.to_string()).unwrap()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Raises the limit of descriptors, for this process and the daemon that it starts. How many connections of those that
/// are wanted the hard limit allows beside those of other tests.
#[allow(clippy::print_stdout, reason = "a test that does less must say so")]
pub(crate) fn descriptors_for(wanted: usize) -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let allowed = usize::try_from(hard).unwrap_or(usize::MAX) / 5 * 3;
    if allowed < wanted {
        println!("only {allowed} of {wanted} connections: the hard limit of descriptors is {hard}");
    }
    allowed.min(wanted)
}

/// Breaks off: whatever is under way is thrown away at both ends.
pub(crate) fn reset(stream: TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    drop(stream);
}

/// Half-closes and reads to the end: a clean end is the receipt, everything else is an error.
pub(crate) fn receipt(mut stream: TcpStream) -> io::Result<()> {
    // Where it fails, the connection has ended already, and reading tells how.
    let _ = stream.shutdown(Shutdown::Write);
    end(&mut stream)
}

/// How the daemon ends the connection, whose only word is its end.
pub(crate) fn end(stream: &mut impl Read) -> io::Result<()> {
    match stream.read(&mut [0; 16])? {
        0 => Ok(()),
        bytes => panic!("{bytes} bytes from a daemon that never talks"),
    }
}

/// Sends everything over a connection of its own and asks for the receipt.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(bytes)?;
    receipt(stream)
}

/// Whether this is the end that nobody can take for a receipt.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
