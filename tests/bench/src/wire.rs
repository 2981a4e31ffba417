//! The parts that all protocols here share: lines, a known number of bytes, and answers of HTTP.

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub struct Wire {
    server: &'static str,
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl Wire {
    pub async fn connect(server: &'static str, port: u16) -> anyhow::Result<Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Wire { server, stream: BufReader::new(stream), line: Vec::new(), body: Vec::new() })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(bytes).await?)
    }

    pub async fn line(&mut self) -> anyhow::Result<&str> {
        self.line.clear();
        if self.stream.read_until(b'\n', &mut self.line).await? == 0 {
            bail!("{} closed the connection", self.server);
        }
        Ok(std::str::from_utf8(&self.line)?.trim_end())
    }

    /// Reads a line that must start with `begin`.
    pub async fn expect(&mut self, begin: &str) -> anyhow::Result<()> {
        let server = self.server;
        let line = self.line().await?;
        if !line.starts_with(begin) {
            bail!("{server} answered {line:?}");
        }
        Ok(())
    }

    pub async fn bytes(&mut self, count: usize) -> anyhow::Result<&[u8]> {
        self.body.resize(count, 0);
        self.stream.read_exact(&mut self.body).await?;
        Ok(&self.body)
    }

    /// Reads up to and including `end`.
    pub async fn until(&mut self, end: &[u8]) -> anyhow::Result<&[u8]> {
        self.line.clear();
        while !self.line.ends_with(end) {
            let unread = self.stream.fill_buf().await?;
            if unread.is_empty() {
                bail!("{} closed the connection", self.server);
            }
            // Data that arrives in pieces, which is rare, is read byte by byte.
            let taken = memchr::memmem::find(unread, end).map_or(1, |at| at + end.len());
            self.line.extend_from_slice(&unread[..taken]);
            self.stream.consume(taken);
        }
        Ok(&self.line)
    }

    /// Reads an answer of HTTP and returns its body. Of the head, only the status and the length matter.
    pub async fn http_answer(&mut self) -> anyhow::Result<&[u8]> {
        let server = self.server;
        let head = self.until(b"\r\n\r\n").await?;
        if !head.starts_with(b"HTTP/1.1 20") {
            bail!("{server} answered {:?}", String::from_utf8_lossy(head));
        }
        let name = b"content-length: ";
        let length = memchr::memmem::find(head, name).context("no content-length")? + name.len();
        let digits = head[length..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
        self.bytes(length).await
    }
}
