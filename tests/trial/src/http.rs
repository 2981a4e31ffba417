//! A client for tests: sends one request on a new connection, or several on the same one.

use crate::wait::DEADLINE;
use serde_json::Value;
use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Returns the error code of a JSON error: its word for programs.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

/// A keep-alive connection. Calls return errors, because a test may kill the server at any moment.
#[derive(Debug)]
pub struct Http {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Http {
    pub fn connect(address: SocketAddr) -> io::Result<Http> {
        Http::on(TcpStream::connect(address)?)
    }

    pub fn on(stream: TcpStream) -> io::Result<Http> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let host = stream.peer_addr()?;
        Ok(Http { stream: BufReader::new(stream), host })
    }

    /// Sends a request. `headers` are further header lines, each with its CR LF.
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        let (host, length) = (self.host, body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n");
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())
    }

    pub fn receive(&mut self) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status: status(&head), head, body })
    }

    pub fn call(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
        self.send(method, path, headers, body)?;
        self.receive()
    }

    /// Reads the bytes that have arrived of an endless answer, or waits for some.
    pub fn read_some(&mut self) -> String {
        let piece = self.stream.fill_buf().unwrap();
        let text = String::from_utf8_lossy(piece).into_owned();
        let length = piece.len();
        self.stream.consume(length);
        text
    }
}

pub fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    tell(address, method, path, "", b"")
}

/// Sends one request with a token and a body, and reads until the server closes the connection.
pub fn tell(address: SocketAddr, method: &str, path: &str, token: &str, body: &[u8]) -> Answer {
    let mut http = Http::connect(address).unwrap();
    let headers = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
    http.send(method, path, &headers, body).unwrap();
    let mut answer = Vec::new();
    http.stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    Answer { status: status(&head), head, body: answer[end + 4..].to_vec() }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Returns the value of a sample on a metrics page, by its name with labels, or zero if it is missing.
pub fn metric<T: FromStr<Err: Debug> + Default>(page: &str, name: &str) -> T {
    let mut samples = page.lines().filter_map(|line| line.rsplit_once(' '));
    samples.find(|(sample, _)| *sample == name).map(|(_, value)| value.parse().unwrap()).unwrap_or_default()
}
