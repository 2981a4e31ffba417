//! Reads server-sent events.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use trial::DEADLINE;

/// A stream of events, as a client reads it.
pub(crate) struct Stream(BufReader<TcpStream>);

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: Value,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr, path: &str, headers: &str) -> Stream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n").unwrap();
        let mut stream = Stream(BufReader::new(stream));
        let head = stream.line().unwrap();
        assert!(head.contains(" 200 "), "{head}");
        while stream.line().unwrap() != "" {}
        stream
    }

    /// Reads a line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line).unwrap();
        (length > 0).then(|| line.trim_end().to_owned())
    }

    /// Waits for the next event; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (mut name, mut id, mut data) = (None, None, None);
        loop {
            let line = self.line()?;
            if let Some(value) = line.strip_prefix("event: ") {
                name = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("id: ") {
                id = Some(value.parse().unwrap());
            } else if let Some(value) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(value).unwrap());
            } else if line.is_empty() && name.is_some() {
                return Some(Event { name: name?, id, data: data? });
            }
        }
    }
}
