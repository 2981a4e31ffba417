//! Splits streams with octet counting (RFC 6587), in which the length of each message in bytes precedes it.

use super::{Framing, LineCounts, Mode};

/// Longest frame header that is accepted: nine digits, almost a gigabyte.
pub(super) const DIGITS_MAX: usize = 9;

impl Framing {
    /// Takes a byte of a frame's header, which is digits and a space.
    pub(super) fn take_header<'a>(&mut self, input: &'a [u8], counts: &mut LineCounts) -> &'a [u8] {
        let (&byte, rest) = match input.split_first() {
            Some(split) => split,
            None => return input,
        };
        match byte {
            // Some senders end each frame with a newline as well.
            b'\n' if self.held.is_empty() => {}
            b'0'..=b'9' if self.held.len() < DIGITS_MAX && (byte, self.held.len()) != (b'0', 0) => {
                self.held.push(byte);
            }
            b' ' if !self.held.is_empty() => {
                let left = self.held.iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
                self.held.clear();
                self.mode = Mode::FrameBody { left };
            }
            _ => {
                // Not a header: continue as plain lines, which begin with the digits taken so far.
                counts.framing_errors += 1;
                self.mode = Mode::Lines;
                return input;
            }
        }
        rest
    }

    /// Takes a frame's message. A newline at its end belongs to no line, as with plain lines.
    pub(super) fn take_body<'a>(
        &mut self,
        input: &'a [u8],
        left: usize,
        emit: &mut impl FnMut(&[u8]),
        counts: &mut LineCounts,
    ) -> &'a [u8] {
        let room = self.line_bytes_max - self.held.len();
        let (body, rest) = input.split_at(input.len().min(left));
        let line = body.strip_suffix(b"\n").unwrap_or(body);
        if body.len() == left && line.len() <= room {
            self.mode = Mode::FrameHeader;
            self.complete(line, emit, counts);
            return rest;
        }
        let uncut = self.hold_or_cut(body, room, emit, counts).len();
        self.mode = Mode::FrameBody { left: left - (body.len() - uncut) };
        &input[body.len() - uncut..]
    }
}
