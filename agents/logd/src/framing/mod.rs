//! Splits the bytes of a connection into lines, and detects from the bytes alone how they are framed.
//!
//! A connection starts undecided. Bytes that look like `<digits> <PRI>` are RFC 6587 octet counting; anything
//! else is plain lines. A plain line may well begin with digits, a date for example. A stream that begins
//! with `<PRI>` holds messages that end with NUL if its first message does, and plain lines otherwise. No
//! byte is ever dropped: what cannot be understood as frames is kept as lines.

mod detection;
mod nul;
mod octets;
mod plain;
#[cfg(test)]
mod tests;

use detection::{DETECTION_BYTES_MAX, detect};

/// The line by which a sender requests a receipt that states how many bytes it covers.
pub const RECEIPT_REQUEST: &[u8] = b"LOGD-RECEIPT 1\n";

/// Largest capacity that a line's buffer keeps after the line is done.
const KEEP_CAPACITY_MAX: usize = 16 * 1024;

/// The number of lines and of framing faults in some input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that were completed.
    pub lines: u64,
    /// Cuts of lines that exceeded the maximum.
    pub splits: u64,
    /// Frames that stopped making sense, counted once per connection.
    pub framing_errors: u64,
}

impl std::ops::AddAssign for LineCounts {
    fn add_assign(&mut self, other: LineCounts) {
        self.lines += other.lines;
        self.splits += other.splits;
        self.framing_errors += other.framing_errors;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Undecided,
    Lines,
    /// The stream began with `<PRI>`, and the end of its first message is not known yet. That message may
    /// have several lines, of which `lines` have been completed. `inside` is true after the beginning of an
    /// overlong line was cut off.
    Opening {
        lines: u16,
        inside: bool,
    },
    /// Between messages that end with NUL.
    NulGap,
    NulBody,
    /// Between frames; `held` has the header's digits so far.
    FrameHeader,
    FrameBody {
        left: usize,
    },
}

/// The framing state of one connection.
#[derive(Debug)]
pub struct Framing {
    mode: Mode,
    /// True if the stream began with a request for a readable receipt.
    receipt_requested: bool,
    /// The beginning of an unfinished line.
    held: Vec<u8>,
    line_bytes_max: usize,
}

impl Framing {
    /// Creates the state for the beginning of a stream. `line_bytes_max` is at least 1; longer lines are cut
    /// into pieces of that size.
    pub fn new(line_bytes_max: usize) -> Framing {
        Framing {
            mode: Mode::Undecided,
            receipt_requested: false,
            held: Vec::new(),
            line_bytes_max: line_bytes_max.max(1),
        }
    }

    /// True if the stream began with `RECEIPT_REQUEST`, which does not count as a line.
    pub fn receipt_requested(&self) -> bool {
        self.receipt_requested
    }

    /// Bytes of an unfinished line that are kept in memory.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// True if no line is unfinished.
    pub fn is_between_lines(&self) -> bool {
        let inside = matches!(self.mode, Mode::FrameBody { .. } | Mode::Opening { inside: true, .. });
        self.held.is_empty() && !inside
    }

    /// Passes each whole line of `input` to `emit`, without its newline.
    pub fn take(&mut self, input: &[u8], emit: &mut impl FnMut(&[u8])) -> LineCounts {
        let mut counts = LineCounts::default();
        if self.mode == Mode::Undecided {
            let known = self.held.len();
            let look = input.len().min(DETECTION_BYTES_MAX);
            self.held.extend_from_slice(&input[..look]);
            if !self.receipt_requested && self.held.starts_with(RECEIPT_REQUEST) {
                self.receipt_requested = true;
                self.held.clear();
                // The rest is framed as if the stream began there.
                return self.take(&input[RECEIPT_REQUEST.len() - known..], emit);
            }
            if !self.receipt_requested && RECEIPT_REQUEST.starts_with(&self.held) {
                return counts;
            }
            let Some(mode) = detect(&self.held) else { return counts };
            self.mode = mode;
            self.held.truncate(known);
            // Bytes held while undecided are input like any other.
            let first = std::mem::take(&mut self.held);
            self.take_all(&first, emit, &mut counts);
        }
        self.take_all(input, emit, &mut counts);
        self.give_back();
        counts
    }

    fn take_all(&mut self, mut input: &[u8], emit: &mut impl FnMut(&[u8]), counts: &mut LineCounts) {
        while !input.is_empty() {
            input = self.take_decided(input, emit, counts);
        }
    }

    /// Ends the stream: the held bytes are its last line.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&[u8])) -> LineCounts {
        let mut counts = LineCounts::default();
        if self.mode == Mode::Undecided {
            self.mode = Mode::Lines;
            let first = std::mem::take(&mut self.held);
            self.take_all(&first, &mut |line| emit(line), &mut counts);
        }
        if matches!(self.mode, Mode::FrameBody { .. })
            || (self.mode == Mode::FrameHeader && !self.held.is_empty())
        {
            counts.framing_errors += 1;
        }
        if !self.held.is_empty() {
            emit(&self.held);
            counts.lines += 1;
        }
        *self = Framing::new(self.line_bytes_max);
        counts
    }

    /// Cuts the unfinished line, because there is no memory to hold more of it.
    pub fn split_here(&mut self, emit: &mut dyn FnMut(&[u8])) -> LineCounts {
        if self.held.is_empty() || matches!(self.mode, Mode::Undecided | Mode::FrameHeader) {
            return LineCounts::default();
        }
        if let Mode::Opening { inside, .. } = &mut self.mode {
            *inside = true;
        }
        emit(&self.held);
        self.held = Vec::new();
        LineCounts { lines: 1, splits: 1, framing_errors: 0 }
    }

    /// Consumes some of `input` and returns the rest.
    fn take_decided<'a>(
        &mut self,
        input: &'a [u8],
        emit: &mut impl FnMut(&[u8]),
        counts: &mut LineCounts,
    ) -> &'a [u8] {
        match self.mode {
            Mode::Undecided | Mode::Lines => self.take_line(input, emit, counts),
            Mode::Opening { lines, inside } => self.take_opening(input, lines, inside, emit, counts),
            Mode::NulGap => self.take_gap(input, counts),
            Mode::NulBody => self.take_message(input, emit, counts),
            Mode::FrameHeader => self.take_header(input, counts),
            Mode::FrameBody { left } => self.take_body(input, left, emit, counts),
        }
    }

    /// Holds a line's beginning. If it does not fit as a whole, a piece is cut off as a line of its own.
    fn hold_or_cut<'a>(
        &mut self,
        input: &'a [u8],
        room: usize,
        emit: &mut impl FnMut(&[u8]),
        counts: &mut LineCounts,
    ) -> &'a [u8] {
        if input.len() <= room {
            self.held.extend_from_slice(input);
            return &[];
        }
        self.complete(&input[..room], emit, counts);
        counts.splits += 1;
        &input[room..]
    }

    /// Completes the line, whose last bytes are `end`.
    fn complete(&mut self, end: &[u8], emit: &mut impl FnMut(&[u8]), counts: &mut LineCounts) {
        if self.held.is_empty() {
            emit(end);
        } else {
            self.held.extend_from_slice(end);
            emit(&self.held);
            self.held.clear();
        }
        counts.lines += 1;
    }

    fn give_back(&mut self) {
        if self.held.capacity() > KEEP_CAPACITY_MAX && self.held.len() < KEEP_CAPACITY_MAX / 4 {
            self.held.shrink_to(self.held.len());
        }
    }
}
