//! Prints the lines that pass a filter.

use crate::line_filter::LineFilter;
use crate::line_format::time_of;
use kit::line_records::RecordEncoder;
use std::io::{self, ErrorKind, Read, Write};

/// The origin of all lines: a file has only one.
const ORIGIN: &str = "logd";

/// Prints whole lines that pass the filter to `out`.
pub(super) struct Printer<W: Write> {
    pub(super) out: W,
    filter: LineFilter,
    /// Encodes the lines for a reader on another host.
    records: Option<RecordEncoder>,
    /// The beginning of a line whose end has not been read yet.
    unfinished: Vec<u8>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, filter: LineFilter) -> Printer<W> {
        Printer { out, filter, records: None, unfinished: Vec::new() }
    }

    /// Prints records instead of text.
    pub(super) fn print_records(&mut self) -> io::Result<()> {
        self.records = Some(RecordEncoder::begin(&mut self.out)?);
        Ok(())
    }

    pub(super) fn copy(&mut self, source: &mut impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(bytes) if self.filter.is_empty() && self.records.is_none() => {
                    self.out.write_all(&buffer[..bytes])?;
                }
                Ok(bytes) => self.take(&buffer[..bytes])?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.unfinished.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.print()?;
            }
        }
        Ok(())
    }

    fn print(&mut self) -> io::Result<()> {
        let line = self.unfinished.strip_suffix(b"\n").unwrap_or(&self.unfinished);
        let passes = self.filter.passes(line);
        match &mut self.records {
            Some(records) if passes => records.add(&mut self.out, time_of(line), ORIGIN, line)?,
            Some(records) => records.stay_alive(&mut self.out)?,
            None if passes => self.out.write_all(&self.unfinished)?,
            None => {}
        }
        self.unfinished.clear();
        Ok(())
    }

    /// Shows everything that was printed. Tells a reader on another host that this one is alive.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.records {
            Some(records) => records.flush(&mut self.out),
            None => self.out.flush(),
        }
    }

    /// Tells a reader on another host that the lines up to now were printed.
    pub(super) fn catch_up(&mut self) -> io::Result<()> {
        match &mut self.records {
            Some(records) => records.catch_up(&mut self.out),
            None => Ok(()),
        }
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        if !self.unfinished.is_empty() {
            self.print()?;
        }
        match self.records.take() {
            Some(records) => records.end(&mut self.out),
            None => self.out.flush(),
        }
    }
}
