//! Tools for tests with many clients: descriptors, ports, and a daemon with too few descriptors.

use crate::DEADLINE;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::str::FromStr;

/// Raises the descriptor limit of this process and of the daemon that it starts. Returns how many of the
/// `wanted` connections the hard limit allows, with room for other tests.
#[allow(clippy::print_stdout, reason = "a test that does less must say so")]
pub fn descriptors_for(wanted: usize) -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let allowed = usize::try_from(hard).unwrap_or(usize::MAX) / 5 * 3;
    if allowed < wanted {
        println!("only {allowed} of {wanted} connections: the hard limit of descriptors is {hard}");
    }
    allowed.min(wanted)
}

/// Wraps a command with `limit` as its soft and hard descriptor limit, so that the process cannot raise it.
pub fn with_descriptors(limit: u64, command: &Command) -> Command {
    limited(&format!("-n {limit}"), command)
}

/// Wraps a command with `limit` as its soft descriptor limit, which the process may raise.
pub fn with_soft_descriptors(limit: u64, command: &Command) -> Command {
    limited(&format!("-S -n {limit}"), command)
}

fn limited(limit: &str, command: &Command) -> Command {
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.env_clear().current_dir(command.get_current_dir().unwrap());
    limited
}

/// Connects from one of the loopback addresses, because a test must not use up the host's ports.
pub fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::from_str(&format!("{source}:0")).unwrap()).unwrap();
    connect(socket.as_raw_fd(), &SockaddrIn::from_str(&address.to_string()).unwrap()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}
