//! The bare loop, the lower limit of cost: read 64 KiB, cut at the last newline, write. No receipts, no
//! bounds, nothing else.

use memchr::memrchr;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;

const READ_BYTES: usize = 64 * 1024;

/// Prints its port and serves until it is killed.
pub fn run(file: &Path) -> anyhow::Result<()> {
    let mut out = OpenOptions::new().append(true).create(true).open(file)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let id = |fd: i32| u64::try_from(fd).unwrap_or(u64::MAX);
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, id(listener.as_raw_fd())))?;
    let mut connections: HashMap<u64, (TcpStream, Vec<u8>)> = HashMap::new();
    let mut events = [EpollEvent::empty(); 64];
    let mut buffer = vec![0; READ_BYTES * 2];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == id(listener.as_raw_fd()) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    let key = id(stream.as_raw_fd());
                    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
                    connections.insert(key, (stream, Vec::new()));
                }
                continue;
            }
            let Some((stream, held)) = connections.get_mut(&event.data()) else { continue };
            buffer[..held.len()].copy_from_slice(held);
            match stream.read(&mut buffer[held.len()..READ_BYTES + held.len()]) {
                Ok(bytes @ 1..) => {
                    let end = held.len() + bytes;
                    let whole = memrchr(b'\n', &buffer[..end]).map_or(0, |at| at + 1);
                    out.write_all(&buffer[..whole])?;
                    held.clear();
                    held.extend_from_slice(&buffer[whole..end]);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => {
                    out.write_all(held)?;
                    connections.remove(&event.data());
                }
            }
        }
    }
}
