//! A sender that observes how its connection ended.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use trial::DEADLINE;

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Breaks off the connection: everything in flight is discarded at both ends.
pub(crate) fn reset(stream: TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    drop(stream);
}

/// Half-closes and reads to the end: a clean end is the receipt, anything else is an error.
pub(crate) fn receipt(mut stream: TcpStream) -> io::Result<()> {
    // Where this fails, the connection has already ended, and reading shows how.
    let _ = stream.shutdown(Shutdown::Write);
    end(&mut stream)
}

/// Reads how the daemon ends the connection, on which it sends no bytes.
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

/// True if this is an end that nobody can take for a receipt.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
