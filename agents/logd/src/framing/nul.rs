//! Splits streams of messages that begin with `<PRI>` and end with NUL.

use super::detection::has_priority;
use super::{Framing, LineCounts, Mode};
use memchr::{memchr, memchr2};

/// Longest first message in lines. A stream with a longer one is treated as plain lines.
const OPENING_LINES_MAX: u16 = 1000;

impl Framing {
    /// Takes a line of the first message of a stream that began with `<PRI>`. A NUL at the line's end selects
    /// messages that end with NUL. A second line that begins with `<PRI>` selects plain lines.
    pub(super) fn take_opening<'a>(
        &mut self,
        input: &'a [u8],
        lines: u16,
        inside: bool,
        emit: &mut impl FnMut(&[u8]),
        counts: &mut LineCounts,
    ) -> &'a [u8] {
        let room = self.line_bytes_max - self.held.len();
        let Some(end) = memchr2(b'\n', 0, &input[..input.len().min(room + 1)]) else {
            if input.len() > room {
                self.mode = Mode::Opening { lines, inside: true };
            }
            return self.hold_or_cut(input, room, emit, counts);
        };
        let line = &input[..end];
        let is_message =
            lines == 0 || (!inside && has_priority(self.held.iter().chain(line).copied()) == Some(true));
        match input[end] {
            // Messages of this stream end with newlines, and a NUL is a byte like any other.
            0 if is_message && lines > 0 => {
                self.mode = Mode::Lines;
                return input;
            }
            0 => self.mode = Mode::NulGap,
            _ if (is_message && lines > 0) || lines + 1 >= OPENING_LINES_MAX => self.mode = Mode::Lines,
            _ => self.mode = Mode::Opening { lines: lines + 1, inside: false },
        }
        // A newline just before the NUL has already ended the last line.
        let ended = self.mode == Mode::NulGap && lines > 0 && self.held.is_empty() && line.is_empty();
        if !ended {
            self.complete(line, emit, counts);
        }
        &input[end + 1..]
    }

    /// Expects another message after a NUL; anything else is a framing error.
    pub(super) fn take_gap<'a>(&mut self, input: &'a [u8], counts: &mut LineCounts) -> &'a [u8] {
        match input.first() {
            // Some senders end each message with a newline as well.
            Some(b'\n') => return &input[1..],
            Some(b'<') => self.mode = Mode::NulBody,
            _ => {
                counts.framing_errors += 1;
                self.mode = Mode::Lines;
            }
        }
        input
    }

    /// Takes a message up to its NUL. Newlines within it stay, so that its lines stay together.
    pub(super) fn take_message<'a>(
        &mut self,
        input: &'a [u8],
        emit: &mut impl FnMut(&[u8]),
        counts: &mut LineCounts,
    ) -> &'a [u8] {
        let room = self.line_bytes_max - self.held.len();
        match memchr(0, &input[..input.len().min(room + 1)]) {
            Some(end) => {
                self.mode = Mode::NulGap;
                let mut message = &input[..end];
                if let Some(without) = message.strip_suffix(b"\n") {
                    message = without;
                } else if message.is_empty() && self.held.ends_with(b"\n") {
                    self.held.pop();
                }
                // An overlong message may have been cut off completely before its end.
                if !(message.is_empty() && self.held.is_empty()) {
                    self.complete(message, emit, counts);
                }
                &input[end + 1..]
            }
            None => self.hold_or_cut(input, room, emit, counts),
        }
    }
}
