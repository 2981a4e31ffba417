//! Splits streams of plain lines, which end with a newline. Lines that are written unchanged are not copied.

use super::{Framing, LineCounts, Mode};
use memchr::{memchr, memchr_iter, memrchr};

/// Largest beginning of a line that is placed before the next read instead of being moved in afterwards. A
/// copy this small costs nothing, while a copy of a long line at each small read would add up.
const PLACE_FIRST_MAX: usize = 4096;

impl Framing {
    /// True if `take_in_place` may be used for the next `bytes` of input.
    pub fn can_take_in_place(&self, bytes: usize) -> bool {
        self.mode == Mode::Lines && self.held.len() + bytes <= self.line_bytes_max
    }

    /// Moves a short beginning of a line to where the next read will continue it, and returns its length.
    pub fn place(&mut self, out: &mut Vec<u8>) -> usize {
        if self.mode != Mode::Lines || self.held.len() > PLACE_FIRST_MAX {
            return 0;
        }
        out.extend_from_slice(&self.held);
        self.held.len()
    }

    /// Takes plain lines that are written unchanged: `out[start..]` is the `placed` beginning followed by the
    /// input. Whole lines stay where they are; the rest is taken out and held. No work is done per line
    /// except for counting.
    pub fn take_in_place(&mut self, out: &mut Vec<u8>, start: usize, placed: usize) -> LineCounts {
        let input = start + placed;
        let Some(last) = memrchr(b'\n', &out[input..]) else {
            self.held.extend_from_slice(&out[input..]);
            out.truncate(start);
            return LineCounts::default();
        };
        let end = input + last + 1;
        if placed == 0 && !self.held.is_empty() {
            // A long line ends here. Its beginning is inserted before the rest, once per line.
            let tail = out.split_off(end);
            let line_end = out.split_off(start);
            out.append(&mut self.held);
            out.extend_from_slice(&line_end);
            let lines = count_lines(&out[start..]);
            self.held = tail;
            self.give_back();
            return LineCounts { lines, ..LineCounts::default() };
        }
        self.held.clear();
        self.held.extend_from_slice(&out[end..]);
        out.truncate(end);
        self.give_back();
        LineCounts { lines: count_lines(&out[start..]), ..LineCounts::default() }
    }

    pub(super) fn take_line<'a>(
        &mut self,
        input: &'a [u8],
        emit: &mut impl FnMut(&[u8]),
        counts: &mut LineCounts,
    ) -> &'a [u8] {
        // The held bytes of a mistaken frame header may be more than a line may have.
        let room = self.line_bytes_max.saturating_sub(self.held.len());
        match memchr(b'\n', &input[..input.len().min(room + 1)]) {
            Some(end) => {
                self.complete(&input[..end], emit, counts);
                &input[end + 1..]
            }
            None => self.hold_or_cut(input, room, emit, counts),
        }
    }
}

pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}
