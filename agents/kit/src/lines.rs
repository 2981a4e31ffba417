//! Cuts a stream of bytes into whole lines with bounded memory.

use memchr::memchr;

/// The unfinished line of one stream. A line above the bound comes out in pieces, each a line of its own, so
/// that no stream can make this process grow. No byte is dropped.
#[derive(Debug)]
pub struct Splitter {
    partial: Vec<u8>,
    line_bytes_max: usize,
}

impl Splitter {
    /// Creates a splitter. `line_bytes_max` counts without the newline and is at least 1.
    pub fn new(line_bytes_max: usize) -> Splitter {
        Splitter { partial: Vec::new(), line_bytes_max: line_bytes_max.max(1) }
    }

    /// True between the first byte of a line and its newline.
    pub fn is_mid_line(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Hands each line that `chunk` completes to `take`, with its newline.
    pub fn feed(&mut self, mut chunk: &[u8], mut take: impl FnMut(&[u8])) {
        while let Some(end) = memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(end + 1);
            if self.partial.is_empty() && end <= self.line_bytes_max {
                take(line); // the usual case: no copy
            } else {
                self.extend(&line[..end], &mut take);
                self.end_line(&mut take);
            }
            chunk = rest;
        }
        self.extend(chunk, &mut take);
    }

    /// Ends the stream: a last line without a newline gets one.
    pub fn finish(&mut self, mut take: impl FnMut(&[u8])) {
        if self.is_mid_line() {
            self.end_line(&mut take);
        }
    }

    fn extend(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&[u8])) {
        loop {
            let room = self.line_bytes_max - self.partial.len();
            if bytes.len() <= room {
                self.partial.extend_from_slice(bytes);
                return;
            }
            let (piece, rest) = bytes.split_at(room);
            self.partial.extend_from_slice(piece);
            self.end_line(take);
            bytes = rest;
        }
    }

    fn end_line(&mut self, take: &mut impl FnMut(&[u8])) {
        self.partial.push(b'\n');
        take(&self.partial);
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Splits the whole input at once, slowly and obviously.
    fn model(input: &[u8], line_bytes_max: usize) -> Vec<Vec<u8>> {
        let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        let pieces = |line: &[u8]| match line {
            [] => vec![b"\n".to_vec()],
            line => line.chunks(line_bytes_max).map(|piece| [piece, b"\n"].concat()).collect(),
        };
        lines.into_iter().flat_map(pieces).collect()
    }

    proptest! {
        #[test]
        fn fragments_give_the_same_result(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..12), 0..20),
            line_bytes_max in 1_usize..10,
        ) {
            let mut splitter = Splitter::new(line_bytes_max);
            let mut lines = Vec::new();
            for chunk in &chunks {
                splitter.feed(chunk, |line| lines.push(line.to_vec()));
                prop_assert!(splitter.partial.len() <= line_bytes_max);
            }
            splitter.finish(|line| lines.push(line.to_vec()));
            prop_assert_eq!(lines, model(&chunks.concat(), line_bytes_max));
        }
    }
}
