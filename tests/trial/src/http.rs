//! A single request to an agent, on its own connection.

use crate::wait::DEADLINE;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    tell(address, method, path, "", b"")
}

/// Sends one request with a token and a body.
pub fn tell(address: SocketAddr, method: &str, path: &str, token: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n");
    let head = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Reads the value of a sample from the metrics page by name and labels; the default, zero, if it is missing.
pub fn metric<T: FromStr<Err: Debug> + Default>(page: &str, name: &str) -> T {
    let mut samples = page.lines().filter_map(|line| line.rsplit_once(' '));
    samples.find(|(sample, _)| *sample == name).map(|(_, value)| value.parse().unwrap()).unwrap_or_default()
}
