//! Keeps the last line that a command wrote, in bounded memory.
//!
//! The order of writes to two pipes cannot be known, and the reason of a failure must not depend on
//! scheduling. A line on stderr therefore takes precedence over one on stdout.

/// The protocol's bound for a reason.
const REASON_BYTES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct LastLine {
    /// The last whole line of each stream that is not blank, and the unfinished line.
    last: [Vec<u8>; 2],
    open: [Vec<u8>; 2],
}

impl LastLine {
    /// Takes bytes from `stream`: 0 for stdout, 1 for stderr.
    pub(crate) fn feed(&mut self, stream: usize, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let open = &mut self.open[stream];
            let room = REASON_BYTES_MAX.saturating_sub(open.len());
            open.extend_from_slice(&piece[..piece.len().min(room)]);
            // The newline of a line that is too long does not fit: it counts when it arrives.
            if piece.ends_with(b"\n") {
                if !is_blank(open) {
                    std::mem::swap(&mut self.last[stream], open);
                }
                open.clear();
            }
        }
    }

    /// The last line that is not blank. Control characters are replaced, since they could mislead a reader in
    /// a terminal.
    pub(crate) fn line(&self) -> Option<String> {
        let ([out, err], [last_out, last_err]) = (&self.open, &self.last);
        let line = [err, last_err, out, last_out].into_iter().find(|line| !is_blank(line))?;
        let text = String::from_utf8_lossy(line);
        let clean = text.trim().replace(char::is_control, "\u{fffd}");
        Some(shortened(clean, REASON_BYTES_MAX))
    }
}

/// Cuts text to at most this many bytes, between characters.
pub(crate) fn shortened(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn last_line(pieces: &[(usize, &[u8])]) -> Option<String> {
        let mut last_line = LastLine::default();
        for (stream, bytes) in pieces {
            last_line.feed(*stream, bytes);
        }
        last_line.line()
    }

    #[test]
    fn last_line_of_stderr_comes_before_stdout() {
        assert_eq!(last_line(&[]), None);
        assert_eq!(last_line(&[(0, b"\n \n")]), None);
        assert_eq!(last_line(&[(0, b"one\ntwo\n\n")]).unwrap(), "two");
        assert_eq!(last_line(&[(1, b"err\n"), (0, b"out\n")]).unwrap(), "err");
        assert_eq!(last_line(&[(1, b" \n"), (0, b"out\n")]).unwrap(), "out");
        assert_eq!(last_line(&[(0, b"out\n"), (1, b"er"), (1, b"ror")]).unwrap(), "error");
        assert_eq!(last_line(&[(0, b"half"), (1, b"error\n")]).unwrap(), "error");
        assert_eq!(last_line(&[(0, b"\x1b[31mred\r\n")]).unwrap(), "\u{fffd}[31mred");
    }

    proptest! {
        #[test]
        fn last_line_is_bounded_and_independent_of_chunks(
            lines in proptest::collection::vec("[a-zé]{1,2000}", 1..4),
            cut in 1..700_usize,
        ) {
            let all = lines.join("\n");
            let mut last_line = LastLine::default();
            for chunk in all.as_bytes().chunks(cut) {
                last_line.feed(0, chunk);
                prop_assert!(last_line.last[0].len() + last_line.open[0].len() <= 2 * REASON_BYTES_MAX);
            }
            let line = last_line.line().unwrap();
            prop_assert!(line.len() <= REASON_BYTES_MAX);
            let whole = lines.last().unwrap();
            let kept = line.trim_end_matches('\u{fffd}');
            prop_assert!(whole.starts_with(kept));
            prop_assert!(line == *whole || line.len() > REASON_BYTES_MAX - 4);
        }
    }
}
