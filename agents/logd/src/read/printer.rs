//! Prints the lines that pass a filter.

use crate::line_filter::LineFilter;
use std::io::{self, ErrorKind, Read, Write};

/// Prints whole lines that pass the filter to `out`.
pub(super) struct Printer<W: Write> {
    pub(super) out: W,
    filter: LineFilter,
    /// The beginning of a line whose end has not been read yet.
    unfinished: Vec<u8>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, filter: LineFilter) -> Printer<W> {
        Printer { out, filter, unfinished: Vec::new() }
    }

    pub(super) fn copy(&mut self, source: &mut impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(bytes) if self.filter.is_empty() => self.out.write_all(&buffer[..bytes])?,
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
        if self.filter.passes(line) {
            self.out.write_all(&self.unfinished)?;
        }
        self.unfinished.clear();
        Ok(())
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        if !self.unfinished.is_empty() {
            self.print()?;
        }
        self.out.flush()
    }
}
