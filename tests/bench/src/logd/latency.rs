//! The latency of a sender that writes a line now and then next to a flood: the time until its line is in the
//! file.

use super::lines::{Load, pause};
use super::server::Server;
use crate::rank::within;
use crate::report::{Cell, Table};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A load that all servers can handle, so that each has the same work.
const FLOOD_MEGABYTES_A_SECOND: usize = 20;
const EVERY: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// A line that is not in the file within this time is lost.
const THERE_WITHIN: Duration = Duration::from_secs(20);

pub fn compare(servers: &[Server], megabytes: usize, rounds: usize, logd: &Path) -> anyhow::Result<Table> {
    let flood = Load::streams(8, 200, 16_000, megabytes * 1_000_000).paced(FLOOD_MEGABYTES_A_SECOND);
    let mut table = Table::new(
        &format!(
            "ms until a line of a slow sender is in the file, beside {FLOOD_MEGABYTES_A_SECOND} MB/s over 8 connections"
        ),
        &["99 %", "half", "longest", "lines", "lost"],
    );
    let mut taken = vec![Vec::new(); servers.len()];
    for round in 0..rounds {
        for (server, taken) in servers.iter().zip(&mut taken) {
            let _ = writeln!(
                std::io::stderr(),
                "beside a flood: {}, round {} of {rounds}",
                server.name(),
                round + 1
            );
            taken.extend(measure(*server, &flood, logd)?);
        }
    }
    for (server, mut taken) in servers.iter().zip(taken) {
        let lines = taken.len();
        taken.retain(|took| *took < THERE_WITHIN);
        taken.sort();
        let milliseconds = |of_a_thousand| Cell::number(within(&taken, of_a_thousand) * 1000.0, 1);
        let count = |count: usize| Cell::Text(count.to_string());
        table.row(
            server.name(),
            vec![
                milliseconds(990),
                milliseconds(500),
                milliseconds(1000),
                count(lines),
                count(lines - taken.len()),
            ],
        );
    }
    Ok(table)
}

fn measure(server: Server, flood: &Load, logd: &Path) -> anyhow::Result<Vec<Duration>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("node_log");
    let running = server.start(logd, directory.path(), &file)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            flood.send(running.port);
            is_over.store(true, Ordering::Relaxed);
        });
        let mut stream = TcpStream::connect(("127.0.0.1", running.port))?;
        let mut reader = Reader::new(&file);
        let mut taken = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            // Each line has its own number, and the flood's lines begin differently.
            let line = format!("slow {:06} sender\n", taken.len());
            let sent = Instant::now();
            stream.write_all(line.as_bytes())?;
            while !reader.finds(line.as_bytes())? && sent.elapsed() < THERE_WITHIN {
                pause(LOOK_EVERY);
            }
            taken.push(sent.elapsed());
            pause(EVERY);
        }
        Ok(taken)
    })
}

/// Follows a file, which may not exist yet.
struct Reader<'a> {
    path: &'a Path,
    file: Option<File>,
    unread: Vec<u8>,
}

impl Reader<'_> {
    fn new(path: &Path) -> Reader<'_> {
        Reader { path, file: None, unread: Vec::new() }
    }

    /// True if `line` is in the bytes that were added since the last match. Keeps only bytes that may be the
    /// beginning of the line.
    fn finds(&mut self, line: &[u8]) -> anyhow::Result<bool> {
        if self.file.is_none() {
            self.file = File::open(self.path).ok();
        }
        let Some(file) = &mut self.file else { return Ok(false) };
        file.read_to_end(&mut self.unread)?;
        let found = memchr::memmem::find(&self.unread, line);
        let end = found.map_or_else(|| self.unread.len().saturating_sub(line.len()), |at| at + line.len());
        self.unread.drain(..end);
        Ok(found.is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn split_line_is_found_once() {
        let mut out = tempfile::NamedTempFile::new().unwrap();
        let path = out.path().to_owned();
        let mut reader = Reader::new(&path);
        assert!(!reader.finds(b"slow 1\n").unwrap());
        write!(out, "flood flood\nslow").unwrap();
        assert!(!reader.finds(b"slow 1\n").unwrap());
        write!(out, " 1\nflood\nslow 2\n").unwrap();
        assert!(reader.finds(b"slow 1\n").unwrap());
        assert!(!reader.finds(b"slow 1\n").unwrap());
        write!(out, "flood\nslow 3\n").unwrap();
        assert!(reader.finds(b"slow 3\n").unwrap());
    }
}
