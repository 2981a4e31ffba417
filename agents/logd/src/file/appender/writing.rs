//! Writes whole lines, or takes back the half line that a full disk left.

use super::{AppendError, Appender};
use crate::file::write_error::WriteError;
use std::io::{self, ErrorKind, Write};

impl Appender {
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        let mut written = 0;
        while written < lines.len() {
            match (&*self.file).write(&lines[written..]) {
                Ok(0) => return Err(self.cut_back(lines, written, ErrorKind::WriteZero.into())),
                Ok(n) => {
                    written += n;
                    self.file_bytes += n as u64;
                    self.bytes_since_look += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.cut_back(lines, written, e)),
            }
        }
        if !lines.is_empty() {
            self.rotation.end_line();
        }
        Ok(())
    }

    /// Removes the half line that a full disk may have taken, so that a reader, and the file after a crash,
    /// sees whole lines only.
    fn cut_back(&mut self, lines: &[u8], written: usize, error: io::Error) -> AppendError {
        let cause = WriteError::Write(error);
        let whole = lines[..written].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        if whole == written || self.take_back(written - whole) {
            if whole > 0 {
                self.rotation.end_line();
            }
            return AppendError { kept_bytes: whole, cause };
        }
        self.rotation.begin_line();
        AppendError { kept_bytes: written, cause }
    }

    /// Removes the last bytes from the file again. False if the system refuses.
    pub(super) fn take_back(&mut self, bytes: usize) -> bool {
        let cut = || {
            // The size is queried, not remembered: somebody may have truncated the file from outside.
            let end = self.file.metadata()?.len();
            self.file.set_len(end.saturating_sub(bytes as u64))
        };
        let taken: io::Result<()> = cut();
        if taken.is_ok() {
            self.file_bytes = self.file_bytes.saturating_sub(bytes as u64);
        }
        taken.is_ok()
    }
}
