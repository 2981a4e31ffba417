//! The work: numbered lines over several connections, and whether all of them came out whole and in order.

use anyhow::{Context, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    pub line_bytes: usize,
    pub lines_per_write: usize,
    pub total_bytes: usize,
}

/// Fixed widths, so that a block's numbers are patched in place and the senders cost little.
const NUMBER_BYTES: usize = 9;
const HEAD_BYTES: usize = 5 + NUMBER_BYTES + 1;

impl Load {
    fn lines_each(&self) -> usize {
        self.total_bytes / self.line_bytes / self.connections / self.lines_per_write * self.lines_per_write
    }

    pub fn bytes(&self) -> usize {
        self.lines_each() * self.connections * self.line_bytes
    }

    /// Sends everything and waits until the other side has closed every connection.
    pub fn send(&self, port: u16) -> anyhow::Result<()> {
        std::thread::scope(|scope| {
            let senders: Vec<_> =
                (0..self.connections).map(|id| scope.spawn(move || self.send_one(port, id))).collect();
            senders.into_iter().try_for_each(|sender| match sender.join() {
                Ok(result) => result,
                Err(_) => bail!("a sender panicked"),
            })
        })
    }

    fn send_one(&self, port: u16, id: usize) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        let mut line = format!("c{id:03} {:0NUMBER_BYTES$} ", 0).into_bytes();
        line.resize(self.line_bytes - 1, b'x');
        line.push(b'\n');
        let mut block = line.repeat(self.lines_per_write);
        let mut number = 0;
        while number < self.lines_each() {
            for line in block.chunks_mut(self.line_bytes) {
                write!(&mut line[5..5 + NUMBER_BYTES], "{number:0NUMBER_BYTES$}")?;
                number += 1;
            }
            stream.write_all(&block)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut rest = [0; 1];
        let _ = stream.read(&mut rest); // the bare loop resets nothing, a peer may
        Ok(())
    }

    /// Every line once, whole, in its connection's order.
    pub fn check(&self, file: &Path) -> anyhow::Result<()> {
        let mut next = vec![0; self.connections];
        let mut reader = BufReader::with_capacity(1 << 20, File::open(file)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let parse = || -> Option<(usize, usize)> {
                let head = std::str::from_utf8(line.get(..HEAD_BYTES)?).ok()?;
                let (id, number) = head.strip_prefix('c')?.split_once(' ')?;
                Some((id.parse().ok()?, number.trim().parse().ok()?))
            };
            let (id, number) = parse().filter(|_| line.len() == self.line_bytes).context("a torn line")?;
            if next.get(id) != Some(&number) {
                bail!("connection {id}: expected line {:?}, found {number}", next.get(id));
            }
            next[id] += 1;
            line.clear();
        }
        match next.iter().position(|count| *count != self.lines_each()) {
            Some(id) => bail!("connection {id}: {} of {} lines", next[id], self.lines_each()),
            None => Ok(()),
        }
    }
}
