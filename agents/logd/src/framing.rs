//! Splits a byte stream into lines, from the bytes alone.
//!
//! A connection starts undecided. Bytes that look like `<digits> <PRI>` are RFC 6587 octet counting; anything
//! else is plain lines. A plain line may well begin with digits, a date for example. A stream that begins
//! with `<PRI>` holds messages that end with NUL if its first message does, and plain lines otherwise. No
//! byte is ever dropped: what cannot be understood as frames is kept as lines.

use memchr::{memchr, memchr_iter, memchr2, memrchr};

/// The line by which a sender requests a receipt that states how many bytes it covers.
pub const RECEIPT_REQUEST: &[u8] = b"LOGD-RECEIPT 1\n";

/// Longest frame header that is accepted: nine digits, almost a gigabyte.
const DIGITS_MAX: usize = 9;
/// Longest first message in lines. A stream with a longer one is treated as plain lines.
const OPENING_LINES_MAX: u16 = 1000;
/// Largest beginning of a line that is placed before the next read instead of being moved in afterwards. A
/// copy this small costs nothing, while a copy of a long line at each small read would add up.
const PLACE_FIRST_MAX: usize = 4096;
/// Largest capacity that a line's buffer keeps after the line is done.
const KEEP_CAPACITY_MAX: usize = 16 * 1024;

/// Counts what some input contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that were completed.
    pub lines: u64,
    /// Cuts of lines that exceeded the maximum.
    pub splits: u64,
    /// Frames that stopped making sense, counted once per connection.
    pub framing_errors: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
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
    /// have several lines: `lines` of them have been completed. `inside` is true after the beginning of an
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

/// One connection's state within its stream of lines.
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
    /// Creates the state at a stream's beginning. `line_bytes_max` is at least 1; longer lines are cut into
    /// pieces of that size.
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
    pub fn take(&mut self, input: &[u8], emit: &mut impl FnMut(&[u8])) -> Tally {
        let mut tally = Tally::default();
        if self.mode == Mode::Undecided {
            let known = self.held.len();
            let look = input.len().min(SNIFF_MAX);
            self.held.extend_from_slice(&input[..look]);
            if !self.receipt_requested && self.held.starts_with(RECEIPT_REQUEST) {
                self.receipt_requested = true;
                self.held.clear();
                // The rest is framed as if the stream began there.
                return self.take(&input[RECEIPT_REQUEST.len() - known..], emit);
            }
            if !self.receipt_requested && RECEIPT_REQUEST.starts_with(&self.held) {
                return tally;
            }
            let Some(mode) = sniff(&self.held) else { return tally };
            self.mode = mode;
            self.held.truncate(known);
            // Bytes held while undecided are input like any other.
            let first = std::mem::take(&mut self.held);
            self.take_all(&first, emit, &mut tally);
        }
        self.take_all(input, emit, &mut tally);
        self.give_back();
        tally
    }

    fn take_all(&mut self, mut input: &[u8], emit: &mut impl FnMut(&[u8]), tally: &mut Tally) {
        while !input.is_empty() {
            input = self.take_decided(input, emit, tally);
        }
    }

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
    pub fn take_in_place(&mut self, out: &mut Vec<u8>, start: usize, placed: usize) -> Tally {
        let input = start + placed;
        let Some(last) = memrchr(b'\n', &out[input..]) else {
            self.held.extend_from_slice(&out[input..]);
            out.truncate(start);
            return Tally::default();
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
            return Tally { lines, ..Tally::default() };
        }
        self.held.clear();
        self.held.extend_from_slice(&out[end..]);
        out.truncate(end);
        self.give_back();
        Tally { lines: count_lines(&out[start..]), ..Tally::default() }
    }

    /// Ends the stream: the held bytes are its last line.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&[u8])) -> Tally {
        let mut tally = Tally::default();
        if self.mode == Mode::Undecided {
            self.mode = Mode::Lines;
            let first = std::mem::take(&mut self.held);
            self.take_all(&first, &mut |line| emit(line), &mut tally);
        }
        if matches!(self.mode, Mode::FrameBody { .. })
            || (self.mode == Mode::FrameHeader && !self.held.is_empty())
        {
            tally.framing_errors += 1;
        }
        if !self.held.is_empty() {
            emit(&self.held);
            tally.lines += 1;
        }
        *self = Framing::new(self.line_bytes_max);
        tally
    }

    /// Cuts the unfinished line, because there is no memory to hold more of it.
    pub fn split_here(&mut self, emit: &mut dyn FnMut(&[u8])) -> Tally {
        if self.held.is_empty() || matches!(self.mode, Mode::Undecided | Mode::FrameHeader) {
            return Tally::default();
        }
        if let Mode::Opening { inside, .. } = &mut self.mode {
            *inside = true;
        }
        emit(&self.held);
        self.held = Vec::new();
        Tally { lines: 1, splits: 1, framing_errors: 0 }
    }

    /// Consumes some of `input` and returns the rest.
    fn take_decided<'a>(
        &mut self,
        input: &'a [u8],
        emit: &mut impl FnMut(&[u8]),
        tally: &mut Tally,
    ) -> &'a [u8] {
        match self.mode {
            Mode::Undecided | Mode::Lines => self.take_line(input, emit, tally),
            Mode::Opening { lines, inside } => self.take_opening(input, lines, inside, emit, tally),
            Mode::NulGap => self.take_gap(input, tally),
            Mode::NulBody => self.take_message(input, emit, tally),
            Mode::FrameHeader => self.take_header(input, tally),
            Mode::FrameBody { left } => self.take_body(input, left, emit, tally),
        }
    }

    fn take_line<'a>(
        &mut self,
        input: &'a [u8],
        emit: &mut impl FnMut(&[u8]),
        tally: &mut Tally,
    ) -> &'a [u8] {
        // The held bytes of a mistaken frame header may be more than a line may have.
        let room = self.line_bytes_max.saturating_sub(self.held.len());
        match memchr(b'\n', &input[..input.len().min(room + 1)]) {
            Some(end) => {
                self.complete(&input[..end], emit, tally);
                &input[end + 1..]
            }
            None => self.hold_or_cut(input, room, emit, tally),
        }
    }

    /// Holds a line's beginning. If it does not fit as a whole, a piece is cut off as a line of its own.
    fn hold_or_cut<'a>(
        &mut self,
        input: &'a [u8],
        room: usize,
        emit: &mut impl FnMut(&[u8]),
        tally: &mut Tally,
    ) -> &'a [u8] {
        if input.len() <= room {
            self.held.extend_from_slice(input);
            return &[];
        }
        self.complete(&input[..room], emit, tally);
        tally.splits += 1;
        &input[room..]
    }

    /// Takes a line of the first message of a stream that began with `<PRI>`. A NUL at the line's end selects
    /// messages that end with NUL. A second line that begins with `<PRI>` selects plain lines.
    fn take_opening<'a>(
        &mut self,
        input: &'a [u8],
        lines: u16,
        inside: bool,
        emit: &mut impl FnMut(&[u8]),
        tally: &mut Tally,
    ) -> &'a [u8] {
        let room = self.line_bytes_max - self.held.len();
        let Some(end) = memchr2(b'\n', 0, &input[..input.len().min(room + 1)]) else {
            if input.len() > room {
                self.mode = Mode::Opening { lines, inside: true };
            }
            return self.hold_or_cut(input, room, emit, tally);
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
            self.complete(line, emit, tally);
        }
        &input[end + 1..]
    }

    /// Expects another message after a NUL; anything else is a framing error.
    fn take_gap<'a>(&mut self, input: &'a [u8], tally: &mut Tally) -> &'a [u8] {
        match input.first() {
            // Some senders end each message with a newline as well.
            Some(b'\n') => return &input[1..],
            Some(b'<') => self.mode = Mode::NulBody,
            _ => {
                tally.framing_errors += 1;
                self.mode = Mode::Lines;
            }
        }
        input
    }

    /// Takes a message up to its NUL. Newlines within it stay, so that its lines stay together.
    fn take_message<'a>(
        &mut self,
        input: &'a [u8],
        emit: &mut impl FnMut(&[u8]),
        tally: &mut Tally,
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
                    self.complete(message, emit, tally);
                }
                &input[end + 1..]
            }
            None => self.hold_or_cut(input, room, emit, tally),
        }
    }

    fn take_header<'a>(&mut self, input: &'a [u8], tally: &mut Tally) -> &'a [u8] {
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
                tally.framing_errors += 1;
                self.mode = Mode::Lines;
                return input;
            }
        }
        rest
    }

    fn take_body<'a>(
        &mut self,
        input: &'a [u8],
        left: usize,
        emit: &mut impl FnMut(&[u8]),
        tally: &mut Tally,
    ) -> &'a [u8] {
        let room = self.line_bytes_max - self.held.len();
        let step = input.len().min(left).min(room);
        let (body, rest) = input.split_at(step);
        let left = left - step;
        self.mode = Mode::FrameBody { left };
        if left == 0 {
            self.mode = Mode::FrameHeader;
            let body_end = body.strip_suffix(b"\n").unwrap_or(body);
            self.complete(body_end, emit, tally);
        } else if step == room {
            self.complete(body, emit, tally);
            tally.splits += 1;
        } else {
            self.held.extend_from_slice(body);
        }
        rest
    }

    /// Completes the line, whose last bytes are `end`.
    fn complete(&mut self, end: &[u8], emit: &mut impl FnMut(&[u8]), tally: &mut Tally) {
        if self.held.is_empty() {
            emit(end);
        } else {
            self.held.extend_from_slice(end);
            emit(&self.held);
            self.held.clear();
        }
        tally.lines += 1;
    }

    fn give_back(&mut self) {
        if self.held.capacity() > KEEP_CAPACITY_MAX && self.held.len() < KEEP_CAPACITY_MAX / 4 {
            self.held.shrink_to(self.held.len());
        }
    }
}

/// Digits of the largest priority, 191.
const PRIORITY_DIGITS_MAX: usize = 3;
/// Bytes needed to recognize digits, a space and `<191>`, or a request for a receipt.
const SNIFF_MAX: usize = DIGITS_MAX + 1 + PRIORITY_DIGITS_MAX + 2;

/// Detects how the stream is framed; `None` while the bytes could still become either.
fn sniff(bytes: &[u8]) -> Option<Mode> {
    if bytes.first() == Some(&b'<') {
        let opening = Mode::Opening { lines: 0, inside: false };
        return has_priority(bytes.iter().copied()).map(|yes| if yes { opening } else { Mode::Lines });
    }
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let rest = &bytes[digits..];
    let header = (1..=DIGITS_MAX).contains(&digits) && bytes[0] != b'0';
    let undecided = bytes.is_empty() || (header && rest.is_empty());
    if undecided {
        return None;
    }
    let Some(rest) = rest.strip_prefix(b" ").filter(|_| header) else { return Some(Mode::Lines) };
    has_priority(rest.iter().copied()).map(|yes| if yes { Mode::FrameHeader } else { Mode::Lines })
}

/// True if the bytes begin with `<PRI>`, one to three digits in angle brackets; `None` while they could still
/// become that.
fn has_priority(mut bytes: impl Iterator<Item = u8>) -> Option<bool> {
    if bytes.next()? != b'<' {
        return Some(false);
    }
    for digits in 0..=PRIORITY_DIGITS_MAX {
        match bytes.next()? {
            b'0'..=b'9' if digits < PRIORITY_DIGITS_MAX => {}
            b'>' => return Some(digits > 0),
            _ => return Some(false),
        }
    }
    Some(false)
}

const _: () = assert!(RECEIPT_REQUEST.len() <= SNIFF_MAX);

fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Computes what the file must hold for one connection's bytes, in a slow and obvious way.
    fn model(input: &[u8], line_bytes_max: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut lines: Vec<&[u8]> = input.split(|b| *b == b'\n').collect();
        if lines.last().is_some_and(|last| last.is_empty()) {
            lines.pop();
        }
        for line in lines {
            let mut pieces: Vec<&[u8]> = line.chunks(line_bytes_max).collect();
            if pieces.is_empty() {
                pieces.push(b"");
            }
            for piece in pieces {
                out.extend_from_slice(piece);
                out.push(b'\n');
            }
        }
        out
    }

    fn append(out: &mut Vec<u8>) -> impl FnMut(&[u8]) + '_ {
        |line| {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }

    /// Feeds fragments the way a connection does: in place where that is allowed.
    fn run(fragments: &[&[u8]], line_bytes_max: usize) -> (Vec<u8>, Tally) {
        let mut framing = Framing::new(line_bytes_max);
        let mut out = b"lines of others\n".to_vec();
        let mut tally = Tally::default();
        for fragment in fragments {
            let start = out.len();
            let placed = framing.place(&mut out);
            if framing.can_take_in_place(fragment.len()) {
                out.extend_from_slice(fragment);
                tally += framing.take_in_place(&mut out, start, placed);
            } else {
                out.truncate(start);
                tally += framing.take(fragment, &mut append(&mut out));
            }
            assert!(out.ends_with(b"\n"), "only whole lines may be in the batch");
        }
        tally += framing.finish(&mut append(&mut out));
        (out.split_off(b"lines of others\n".len()), tally)
    }

    fn fragments<'a>(input: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
    }

    /// Generates bytes other than NUL and digits: a line must not look like the next message.
    fn message_byte() -> impl Strategy<Value = u8> {
        prop_oneof![2 => Just(b'\n'), 2 => Just(b'<'), 4 => any::<u8>().prop_filter("no end", |b| *b != 0 && !b.is_ascii_digit())]
    }

    fn bytes_with_many_newlines() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![4 => Just(b'\n'), 2 => Just(b'\0'), 2 => Just(b' '), 2 => Just(b'<'), 2 => Just(b'>'), 3 => b'0'..=b'9', 8 => any::<u8>()];
        proptest::collection::vec(byte, 0..300)
    }

    proptest! {
        #[test]
        fn plain_lines_come_out_as_the_model_says_however_they_are_cut(
            input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
        ) {
            // The first line cannot be a frame header, so that the rest may look like anything.
            let input = [b"plain\n".as_slice(), &input].concat();
            let (out, tally) = run(&fragments(&input, &cuts), max);
            let expected = model(&input, max);
            prop_assert_eq!(tally.lines, count_lines(&expected));
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn frames_come_out_as_lines_however_they_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>().prop_filter("no newline", |b| *b != b'\n'), 0..60), 1..8),
            cuts in proptest::collection::vec(any::<usize>(), 0..20),
        ) {
            let messages: Vec<Vec<u8>> = messages.into_iter().map(|m| [b"<13>".to_vec(), m].concat()).collect();
            let input: Vec<u8> = messages.iter().flat_map(|m| [format!("{} ", m.len()).into_bytes(), m.clone()].concat()).collect();
            let (out, tally) = run(&fragments(&input, &cuts), 1 << 20);
            let expected: Vec<u8> = messages.iter().flat_map(|m| [m.as_slice(), b"\n"].concat()).collect();
            prop_assert_eq!(tally, Tally { lines: messages.len() as u64, splits: 0, framing_errors: 0 });
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn a_request_for_a_receipt_is_no_line_and_the_rest_is_framed_without_it(
            input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
        ) {
            let requesting = [RECEIPT_REQUEST, &input].concat();
            let mut framing = Framing::new(max);
            framing.take(&requesting, &mut |_| {});
            prop_assert!(framing.receipt_requested());
            prop_assert_eq!(run(&fragments(&requesting, &cuts), max), run(&[&input], max));
        }

        #[test]
        fn what_only_resembles_a_request_for_a_receipt_is_kept(
            length in 0..RECEIPT_REQUEST.len(), other in any::<u8>(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
        ) {
            let mut input = [&RECEIPT_REQUEST[..length], &[other], b"\nnext"].concat();
            if other == RECEIPT_REQUEST[length] {
                input.truncate(length);
            }
            prop_assert_eq!(run(&fragments(&input, &cuts), max).0, model(&input, max));
        }

        #[test]
        fn messages_that_end_with_nul_come_out_one_by_one_however_they_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(message_byte(), 0..60), 1..8),
            cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
        ) {
            let messages: Vec<Vec<u8>> = messages.into_iter().map(|m| [b"<13>".to_vec(), m].concat()).collect();
            let input: Vec<u8> = messages.iter().flat_map(|m| [m.as_slice(), b"\0"].concat()).collect();
            let (first, others) = messages.split_first().unwrap();
            // While its lines arrive, nobody knows yet that a NUL will end the first message.
            let mut expected = model(first, max);
            for message in others {
                for piece in message.strip_suffix(b"\n").unwrap_or(message).chunks(max) {
                    expected.extend_from_slice(piece);
                    expected.push(b'\n');
                }
            }
            let (out, tally) = run(&fragments(&input, &cuts), max);
            prop_assert_eq!(tally.framing_errors, 0);
            prop_assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
        }

        #[test]
        fn a_stream_is_the_same_lines_however_it_is_cut(
            start in prop_oneof![Just(&b""[..]), Just(&b"<13>"[..]), Just(&b"<13>a\0"[..]), Just(RECEIPT_REQUEST)],
            input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
        ) {
            let input = [start, &input].concat();
            prop_assert_eq!(run(&fragments(&input, &cuts), max), run(&[&input], max));
        }

        #[test]
        fn no_input_whatever_loses_a_byte_other_than_headers_and_newlines(
            input in bytes_with_many_newlines(), cuts in proptest::collection::vec(any::<usize>(), 0..20), max in 1usize..80,
        ) {
            let kept = |bytes: &[u8]| bytes.iter().copied().filter(|b| !b"\0\n 0123456789".contains(b)).collect::<Vec<u8>>();
            let (out, _) = run(&fragments(&input, &cuts), max);
            prop_assert_eq!(kept(&out), kept(&input));
        }
    }

    #[test]
    fn digits_first_is_plain_unless_a_priority_follows() {
        for plain in [
            "2026-11-21 started\n",
            "12 apples\n",
            "007 <13>x\n",
            "12 <b>bold</b>\n",
            "12 <1234>x\n",
            "1234567890 <13>x\n",
            "42\n",
            "42",
        ] {
            assert_eq!(sniff(plain.as_bytes()).unwrap_or(Mode::Lines), Mode::Lines, "{plain}");
            let (out, _) = run(&[plain.as_bytes()], 1 << 20);
            assert_eq!(out, model(plain.as_bytes(), 1 << 20));
        }
        assert_eq!(sniff(b"12 <13>hello"), Some(Mode::FrameHeader));
        for open in ["", "1", "12", "12 ", "12 <", "12 <1", "12 <191"] {
            assert_eq!(sniff(open.as_bytes()), None, "{open}");
        }
    }

    #[test]
    fn a_nul_after_a_first_message_ends_all_messages_of_the_stream() {
        let sent: [(&[u8], &[u8], u64); 8] = [
            (b"<13>a\0<14>b\0", b"<13>a\n<14>b\n", 0),
            (b"<13>a\0<14>not ended", b"<13>a\n<14>not ended\n", 0),
            (
                b"<13>Traceback\n  File\n\0<14>x\n  y\n\0\n<15>z\0",
                b"<13>Traceback\n  File\n<14>x\n  y\n<15>z\n",
                0,
            ),
            // Plain lines keep their NULs.
            (b"<13>a\n<14>b\0c\n<15>d\0\n", b"<13>a\n<14>b\0c\n<15>d\0\n", 0),
            (b"<13>a\n<14>b\n\0\n", b"<13>a\n<14>b\n\0\n", 0),
            (b"<1234>a\0<13>b\0\n", b"<1234>a\0<13>b\0\n", 0),
            (b"a\0<13>b\0\n", b"a\0<13>b\0\n", 0),
            // No message follows: the NUL counts as an end, and the rest is plain lines.
            (b"<13>a\0b\0c\nd\n", b"<13>a\nb\0c\nd\n", 1),
        ];
        for (input, expected, framing_errors) in sent {
            for size in 1..=input.len() {
                let (out, tally) = run(&input.chunks(size).collect::<Vec<_>>(), 1 << 20);
                assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
                assert_eq!(tally.framing_errors, framing_errors, "{}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn frames_that_stop_making_sense_go_on_as_lines() {
        let (out, tally) = run(&[b"6 <13>hi4 <13>garbage 12\nmore\n"], 1 << 20);
        assert_eq!(out, b"<13>hi\n<13>\ngarbage 12\nmore\n");
        assert_eq!(tally.framing_errors, 1);
    }

    #[test]
    fn a_frame_cut_off_by_the_end_is_kept_and_said() {
        let (out, tally) = run(&[b"60 <13>only a part"], 1 << 20);
        assert_eq!(out, b"<13>only a part\n");
        assert_eq!(tally, Tally { lines: 1, splits: 0, framing_errors: 1 });
    }

    #[test]
    fn an_oversized_frame_is_split_and_counted() {
        let (out, tally) = run(&[b"10 <13>abcdef5 <13>g"], 4);
        assert_eq!(out, b"<13>\nabcd\nef\n<13>\ng\n");
        assert_eq!(tally.splits, 3);
    }

    #[test]
    fn a_long_line_does_not_keep_its_memory() {
        let mut framing = Framing::new(1 << 20);
        framing.take(&vec![b'x'; 500_000], &mut |_| {});
        framing.take(b"\nnext", &mut |_| {});
        assert!(framing.held.capacity() <= KEEP_CAPACITY_MAX);
        assert_eq!(framing.held_bytes(), 4);
    }
}
