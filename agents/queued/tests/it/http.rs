//! A plain HTTP client, so that tests see the bytes on the wire.

use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use trial::DEADLINE;

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    /// The requests without an answer so far.
    asked: VecDeque<(String, String)>,
    pub(crate) token: Option<String>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Http {
        let stream = TcpStream::connect(address).unwrap();
        Http::on(stream)
    }

    pub(crate) fn on(stream: TcpStream) -> Http {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Http { stream: BufReader::new(stream), asked: VecDeque::new(), token: None }
    }

    /// Connects to a server that may be gone.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Http> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        Some(Http { stream: BufReader::new(stream), asked: VecDeque::new(), token: None })
    }

    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: q\r\nContent-Length: {}\r\n", body.len());
        if !content_type.is_empty() {
            head += &format!("Content-Type: {content_type}\r\n");
        }
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        self.asked.push_back((method.to_owned(), path.to_owned()));
        let request = [head.as_bytes(), b"\r\n", body].concat();
        self.stream.get_mut().write_all(&request)
    }

    pub(crate) fn receive(&mut self) -> std::io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        self.stream.read_exact(&mut body)?;
        if let Some((method, path)) = self.asked.pop_front() {
            crate::openapi::check_status(&method, &path, status);
        }
        Ok(Answer { status, head, body })
    }

    pub(crate) fn try_call(&mut self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        self.send(method, path, "", body)?;
        self.receive()
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.try_call(method, path, body.as_ref()).unwrap()
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.call("POST", path, body)
    }

    /// Reads the next piece of an endless answer.
    pub(crate) fn read_some(&mut self) -> String {
        let piece = self.stream.fill_buf().unwrap();
        let text = String::from_utf8_lossy(piece).into_owned();
        let length = piece.len();
        self.stream.consume(length);
        text
    }
}
