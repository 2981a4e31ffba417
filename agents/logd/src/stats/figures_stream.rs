//! The stream of figures from a running logd, over HTTP.

use crate::page::{FIGURES, Shown};
use kit::exit::{Exit, Fatal};
use kit::terminal;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest silence of a healthy daemon, which sends figures every second.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Longest line that is read, far more than the figures need.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A running logd that sends its figures.
pub(super) struct FiguresStream {
    address: SocketAddr,
    from: BufReader<TcpStream>,
}

impl FiguresStream {
    pub(super) async fn connect(address: SocketAddr, token: Option<&str>) -> Result<FiguresStream, Fatal> {
        let mut stream = match timeout(ANSWER_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => FiguresStream { address, from: BufReader::new(stream) },
            Ok(Err(error)) => return Err(unreachable(address).because(error)),
            Err(late) => return Err(unreachable(address).because(late)),
        };
        // HTTP/1.0, so that the answer comes unchanged, not in chunks.
        let authorization =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET {FIGURES} HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\n{authorization}\r\n"
        );
        stream
            .from
            .get_mut()
            .write_all(request.as_bytes())
            .await
            .map_err(|e| unreachable(address).because(e))?;
        let status = stream.line().await?;
        while !stream.line().await?.is_empty() {}
        match status.split(' ').nth(1) {
            Some("200") => Ok(stream),
            _ => Err(stream.refused(&status).await),
        }
    }

    /// Returns the data of the next event other than the history, as text and parsed.
    pub(super) async fn next(&mut self) -> Result<(String, Shown), Fatal> {
        let mut event = String::new();
        loop {
            let line = self.line().await?;
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.to_owned();
            } else if event != "history"
                && let Some(told) = line.strip_prefix("data: ")
            {
                let shown = serde_json::from_str(told).map_err(|e| self.stranger().because(e))?;
                return Ok((told.to_owned(), shown));
            }
        }
    }

    async fn line(&mut self) -> Result<String, Fatal> {
        let mut line = Vec::new();
        let mut from = (&mut self.from).take(LINE_BYTES_MAX);
        match timeout(ANSWER_WITHIN, from.read_until(b'\n', &mut line)).await {
            Ok(Ok(_)) if line.ends_with(b"\n") => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Ok(Ok(0)) => {
                Err(unreachable(self.address).because(io::Error::from(io::ErrorKind::UnexpectedEof)))
            }
            Ok(Ok(_)) => Err(self.stranger()),
            Ok(Err(error)) => Err(unreachable(self.address).because(error)),
            Err(late) => Err(unreachable(self.address).because(late)),
        }
    }

    async fn refused(&mut self, status: &str) -> Fatal {
        let why = self.line().await.unwrap_or_default();
        let (status, why) = (terminal::excerpt(status, 100), terminal::excerpt(&why, 200));
        let message =
            format!("{} does not serve logd's statistics, see --admin: {status} {why}", self.address);
        Fatal::new(Exit::Failure, message.trim_end())
    }

    fn stranger(&self) -> Fatal {
        Fatal::new(Exit::Failure, format!("the answer of {} is not from logd: see --admin", self.address))
    }
}

fn unreachable(address: SocketAddr) -> Fatal {
    let message = format!(
        "no answer from logd's admin endpoint {address}; is logd running, and was it started with this --admin?"
    );
    Fatal::new(Exit::TryAgain, message)
}
