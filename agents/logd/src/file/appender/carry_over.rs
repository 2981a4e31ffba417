//! Copies the content of a removed file into its successor, a piece at a time. The file may be large, and
//! probes must be answered meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// A copy in progress. The source has no name; only its descriptor keeps it alive.
#[derive(Debug)]
pub struct CarryOver {
    from: Arc<File>,
    done_bytes: u64,
}

impl CarryOver {
    pub fn new(from: Arc<File>) -> CarryOver {
        CarryOver { from, done_bytes: 0 }
    }

    /// Returns the source, which is copied again if the successor is lost, too.
    pub fn into_source(self) -> Arc<File> {
        self.from
    }

    pub fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    /// Copies the next piece and returns its length; 0 at the end. A piece that does not fit is taken back.
    pub fn copy_piece(&mut self, to: &File) -> io::Result<u64> {
        let left = self.from.metadata()?.len().saturating_sub(self.done_bytes);
        let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
        self.from.read_exact_at(&mut piece, self.done_bytes)?;
        let length_before = to.metadata()?.len();
        if let Err(error) = (&*to).write_all(&piece) {
            to.set_len(length_before)?;
            return Err(error);
        }
        self.done_bytes += piece.len() as u64;
        Ok(piece.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carried_lines_follow_the_successors() {
        let directory = tempfile::tempdir().unwrap();
        let lines = b"a line of no great length\n".repeat(400_000);
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(&lines, 0).unwrap();
        let path = directory.path().join("successor");
        std::fs::write(&path, "first\n").unwrap();
        let successor = File::options().append(true).open(&path).unwrap();
        let mut carry = CarryOver::new(Arc::new(source));
        let mut pieces = 0;
        while carry.copy_piece(&successor).unwrap() > 0 {
            pieces += 1;
        }
        assert!(pieces > 1 && carry.done_bytes() == lines.len() as u64);
        assert!(std::fs::read(&path).unwrap() == [b"first\n", &lines[..]].concat());
    }
}
