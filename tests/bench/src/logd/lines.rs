//! The workload: numbered lines over several connections, and a check of the fate of each line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One workload.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    /// Number of connections open at the same time.
    pub at_once: usize,
    pub line_bytes: usize,
    pub lines_per_write: usize,
    pub lines_each: usize,
    /// Total rate of all connections; unlimited if `None`.
    pub megabytes_a_second: Option<usize>,
}

/// The fate of the lines that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub lost: usize,
    /// Lines in the file that were never sent.
    pub torn: usize,
    pub repeated: usize,
    /// Lines after a later one of the same connection.
    pub late: usize,
}

/// Fixed widths, so that numbers are patched into a block in place and the senders cost little.
const ID_BYTES: usize = 5;
const NUMBER_BYTES: usize = 9;
const NUMBER_AT: usize = 1 + ID_BYTES + 1;
const HEAD_BYTES: usize = NUMBER_AT + NUMBER_BYTES + 1;

/// A server that has not closed a connection within this time never will.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
/// A file that has not grown for this time is complete.
const GROWN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Load {
    /// Several concurrent connections that send about `total_bytes` together.
    pub fn streams(connections: usize, line_bytes: usize, write_bytes: usize, total_bytes: usize) -> Load {
        let lines_per_write = (write_bytes / line_bytes).max(1);
        let lines_each = total_bytes / line_bytes / connections / lines_per_write * lines_per_write;
        Load {
            connections,
            at_once: connections,
            line_bytes,
            lines_per_write,
            lines_each,
            megabytes_a_second: None,
        }
    }

    /// Limits the total rate of all connections.
    pub fn paced(self, megabytes_a_second: usize) -> Load {
        Load { megabytes_a_second: Some(megabytes_a_second), ..self }
    }

    /// Connections that send one line each.
    pub fn visits(connections: usize, at_once: usize) -> Load {
        Load {
            connections,
            at_once,
            line_bytes: 200,
            lines_per_write: 1,
            lines_each: 1,
            megabytes_a_second: None,
        }
    }

    pub fn lines(&self) -> usize {
        self.lines_each * self.connections
    }

    pub fn bytes(&self) -> usize {
        self.lines() * self.line_bytes
    }

    /// Sends everything and waits until the server has closed every connection.
    pub fn send(&self, port: u16) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id >= self.connections {
                    return;
                }
                // A connection that the server cuts off loses lines: the outcome shows them.
                let _ = self.send_one(port, id);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(work);
            }
        });
    }

    fn send_one(&self, port: u16, id: usize) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(CLOSED_WITHIN))?;
        let mut line = format!("c{id:0ID_BYTES$} {:0NUMBER_BYTES$} ", 0).into_bytes();
        line.resize(self.line_bytes - 1, b'x');
        line.push(b'\n');
        let mut block = line.repeat(self.lines_per_write);
        let mut number = 0;
        let began = Instant::now();
        // At one megabyte a second, a byte takes a microsecond.
        let pause_us = self.megabytes_a_second.map_or(0, |pace| block.len() * self.connections / pace);
        let between = Duration::from_micros(pause_us.try_into()?);
        let mut due = Duration::ZERO;
        while number < self.lines_each {
            pause(due.saturating_sub(began.elapsed()));
            due += between;
            for line in block.chunks_mut(self.line_bytes) {
                write!(&mut line[NUMBER_AT..NUMBER_AT + NUMBER_BYTES], "{number:0NUMBER_BYTES$}")?;
                number += 1;
            }
            stream.write_all(&block)?;
        }
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// Waits until all lines are in the file, or it stops growing.
    pub fn settle(&self, file: &Path) {
        let mut grown = (0, Instant::now());
        loop {
            let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
            if usize::try_from(bytes).is_ok_and(|bytes| bytes >= self.bytes()) {
                return;
            }
            if bytes != grown.0 {
                grown = (bytes, Instant::now());
            } else if grown.1.elapsed() > GROWN_WITHIN {
                return;
            }
            pause(LOOK_EVERY);
        }
    }

    pub fn outcome(&self, file: &Path) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome { lost: self.lines(), ..Outcome::default() };
        let mut seen = vec![false; self.lines()];
        let mut next = vec![0; self.connections];
        let mut reader = BufReader::with_capacity(1 << 20, File::open(file)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            match self.numbers(&line) {
                None => outcome.torn += 1,
                Some((id, number)) if std::mem::replace(&mut seen[id * self.lines_each + number], true) => {
                    outcome.repeated += 1;
                }
                Some((id, number)) => {
                    outcome.lost -= 1;
                    outcome.late += usize::from(number < next[id]);
                    next[id] = next[id].max(number + 1);
                }
            }
            line.clear();
        }
        Ok(outcome)
    }

    /// Parses the connection and number of a line that was sent.
    fn numbers(&self, line: &[u8]) -> Option<(usize, usize)> {
        let head = std::str::from_utf8(line.get(..HEAD_BYTES)?).ok()?;
        let (id, number) = head.strip_prefix('c')?.split_once(' ')?;
        let (id, number) = (id.parse().ok()?, number.strip_suffix(' ')?.parse().ok()?);
        let filled = line.get(HEAD_BYTES..self.line_bytes - 1)?.iter().all(|byte| *byte == b'x');
        let whole = filled && line.len() == self.line_bytes && line.ends_with(b"\n");
        (whole && id < self.connections && number < self.lines_each).then_some((id, number))
    }
}

#[expect(clippy::disallowed_methods, reason = "spinning would take a processor from what is measured")]
pub fn pause(duration: Duration) {
    if !duration.is_zero() {
        std::thread::sleep(duration);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn lost_torn_and_doubled_lines_are_seen() {
        let load = Load {
            connections: 2,
            at_once: 2,
            line_bytes: 21,
            lines_per_write: 1,
            lines_each: 3,
            megabytes_a_second: None,
        };
        let line = |id: usize, number: usize| format!("c{id:05} {number:09} xxx\n");
        let whole: String =
            [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)].map(|(i, n)| line(i, n)).concat();
        let outcome = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            load.outcome(file.path()).unwrap()
        };
        let told = |lost, torn, repeated, late| Outcome { lost, torn, repeated, late };
        assert_eq!(outcome(&whole), told(0, 0, 0, 0));
        assert_eq!(outcome(&whole.replace(&line(1, 1), "")), told(1, 0, 0, 0));
        assert_eq!(outcome(&(whole.clone() + &line(1, 1))), told(0, 0, 1, 0));
        assert_eq!(outcome(&(whole.replace(&line(1, 1), "") + &line(1, 1))), told(0, 0, 0, 1));
        assert_eq!(outcome(&whole.replace("1 000000001 xxx", "1 000000001 xx")), told(1, 1, 0, 0));
        assert_eq!(outcome(&whole.replace("1 000000001 xxx", "1 0000x0001 xxx")), told(1, 1, 0, 0));
        assert_eq!(outcome(&whole.replace("1 000000001 xxx", "1 000000009 xxx")), told(1, 1, 0, 0));
        assert_eq!(outcome(&whole.replace("1 000000001 xxx", "1 000000001 xyx")), told(1, 1, 0, 0));
        assert_eq!(outcome(&whole.replacen('\n', "", 1)), told(2, 1, 0, 0));
    }
}
