//! The stream of log lines that agents send to a reader on another host: each line with its time and origin.
//!
//! ```text
//! "nodecrew lines 1\n" | block … | 0 u32
//! block:  packed bytes u32 | unpacked bytes u32 | records, as raw deflate
//! record: time i64 | origin u32 | bytes u32 | the line without its newline
//! ```
//! Numbers are little-endian. A time counts nanoseconds since 1970; the smallest number means that the line has
//! none. A record with the largest origin names an origin: its time is the origin's number, and its line the
//! name. A block without records only shows that the sender is alive. The largest number in the place of a block
//! says that everything up to now was sent, and that new lines follow. A stream that lacks the last number was
//! cut.

use crate::exit::Exit;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use jiff::Timestamp;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

const START: &[u8] = b"nodecrew lines 1\n";
/// The size at which a block is sent.
const BLOCK_BYTES: usize = 128 << 10;
/// Limit on an unpacked block. A line may be far longer than a usual block.
const BLOCK_BYTES_MAX: usize = 8 << 20;
/// Limit on a line. A longer one is cut.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Limit on the origins that both sides remember.
const ORIGINS_MAX: usize = 8192;
/// Bytes of a record before its line.
const RECORD_HEADER_BYTES: usize = 16;
const NAMES_AN_ORIGIN: u32 = u32::MAX;
const NO_TIME: i64 = i64::MIN;
const CAUGHT_UP: u32 = u32::MAX;
/// The longest silence of a sender that is alive.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRecord {
    pub time: Option<Timestamp>,
    /// The log from which the line comes, in the sender's words.
    pub origin: Arc<str>,
    /// Without its newline.
    pub line: Vec<u8>,
}

/// Ends this process as soon as its stdin ends. The connection to the other host may break while this process
/// waits for somebody to take its lines, and nothing else would tell it.
#[allow(clippy::disallowed_methods, reason = "the main thread may be blocked, and holds nothing to be saved")]
pub fn end_with_stdin() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(i32::from(Exit::TryAgain.code()));
    });
}

/// Collects lines in blocks.
#[derive(Debug)]
pub struct RecordEncoder {
    block: Vec<u8>,
    packed: Vec<u8>,
    deflate: Compress,
    origins: HashMap<String, u32>,
    /// The time of the last block.
    sent: Instant,
    /// True until the first line is sent. It does not wait for a full block.
    is_first: bool,
}

impl RecordEncoder {
    /// Sends the start of the stream, which shows that the sender is there.
    pub fn begin(out: &mut impl Write) -> io::Result<RecordEncoder> {
        out.write_all(START)?;
        out.flush()?;
        Ok(RecordEncoder {
            block: Vec::new(),
            packed: Vec::new(),
            deflate: Compress::new(Compression::fast(), false),
            origins: HashMap::new(),
            sent: Instant::now(),
            is_first: true,
        })
    }

    /// Adds a line, and sends the block if it is full.
    pub fn add(
        &mut self,
        out: &mut impl Write,
        time: Option<Timestamp>,
        origin: &str,
        line: &[u8],
    ) -> io::Result<()> {
        let time = time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).unwrap_or(NO_TIME);
        let number = self.number_of(origin)?;
        self.push(time, number, line.get(..LINE_BYTES_MAX).unwrap_or(line))?;
        if self.block.len() >= BLOCK_BYTES || std::mem::take(&mut self.is_first) {
            return self.flush(out);
        }
        self.stay_alive(out)
    }

    /// Sends what there is, if nothing was sent for a while.
    pub fn stay_alive(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.sent.elapsed() < SILENCE_MAX / 2 { Ok(()) } else { self.flush(out) }
    }

    /// Sends the block, even if it is empty.
    pub fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.packed.clear();
        self.deflate.reset();
        loop {
            self.packed.reserve(self.block.len() + 64);
            let taken = usize::try_from(self.deflate.total_in()).unwrap_or(usize::MAX);
            let status = self.deflate.compress_vec(
                self.block.get(taken..).unwrap_or_default(),
                &mut self.packed,
                FlushCompress::Finish,
            )?;
            if status == Status::StreamEnd {
                break;
            }
        }
        out.write_all(&length_of(&self.packed)?.to_le_bytes())?;
        out.write_all(&length_of(&self.block)?.to_le_bytes())?;
        out.write_all(&self.packed)?;
        self.block.clear();
        self.sent = Instant::now();
        out.flush()
    }

    /// Sends what there is, and tells that everything up to now was sent.
    pub fn catch_up(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.flush(out)?;
        out.write_all(&CAUGHT_UP.to_le_bytes())?;
        out.flush()
    }

    /// Ends the stream.
    pub fn end(mut self, out: &mut impl Write) -> io::Result<()> {
        if !self.block.is_empty() {
            self.flush(out)?;
        }
        out.write_all(&0_u32.to_le_bytes())?;
        out.flush()
    }

    fn number_of(&mut self, origin: &str) -> io::Result<u32> {
        if let Some(number) = self.origins.get(origin) {
            return Ok(*number);
        }
        if self.origins.len() >= ORIGINS_MAX {
            self.origins.clear();
        }
        let number = u32::try_from(self.origins.len()).unwrap_or(0);
        self.origins.insert(origin.to_owned(), number);
        self.push(i64::from(number), NAMES_AN_ORIGIN, origin.as_bytes())?;
        Ok(number)
    }

    fn push(&mut self, time: i64, origin: u32, line: &[u8]) -> io::Result<()> {
        self.block.extend(time.to_le_bytes());
        self.block.extend(origin.to_le_bytes());
        self.block.extend(length_of(line)?.to_le_bytes());
        self.block.extend(line);
        Ok(())
    }
}

fn length_of(bytes: &[u8]) -> io::Result<u32> {
    let too_long = || io::Error::new(ErrorKind::InvalidInput, "a line is too long to be sent");
    if bytes.len() > BLOCK_BYTES_MAX {
        Err(too_long())
    } else {
        u32::try_from(bytes.len()).map_err(|_| too_long())
    }
}

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamPart {
    /// A block, which may have no lines.
    Lines(Vec<LineRecord>),
    /// Everything up to now has arrived. The lines that follow are new.
    CaughtUp,
}

/// Reads the parts of a stream.
#[derive(Debug)]
pub struct RecordReader<R> {
    from: R,
    origins: Vec<Arc<str>>,
}

impl<R: Read> RecordReader<R> {
    /// Reads the start of the stream.
    pub fn begin(mut from: R) -> io::Result<RecordReader<R>> {
        let mut start = [0; START.len()];
        from.read_exact(&mut start)?;
        match start == *START {
            true => Ok(RecordReader { from, origins: Vec::new() }),
            false => Err(damaged("it does not answer with lines; its version may be another one")),
        }
    }

    /// Returns the next part; `None` at the end of the stream.
    pub fn part(&mut self) -> io::Result<Option<StreamPart>> {
        let packed_bytes = match self.number()? {
            0 => return Ok(None),
            CAUGHT_UP => return Ok(Some(StreamPart::CaughtUp)),
            packed_bytes => checked(packed_bytes)?,
        };
        let unpacked_bytes = checked(self.number()?)?;
        let mut packed = vec![0; packed_bytes];
        self.from.read_exact(&mut packed)?;
        // Without spare capacity, the end of an empty block is not reached.
        let mut unpacked = Vec::with_capacity(unpacked_bytes + 1);
        let status =
            Decompress::new(false).decompress_vec(&packed, &mut unpacked, FlushDecompress::Finish)?;
        if status != Status::StreamEnd || unpacked.len() != unpacked_bytes {
            return Err(damaged("a block is damaged"));
        }
        self.records(&unpacked).map(|lines| Some(StreamPart::Lines(lines)))
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut number = [0; 4];
        self.from.read_exact(&mut number)?;
        Ok(u32::from_le_bytes(number))
    }

    fn records(&mut self, mut rest: &[u8]) -> io::Result<Vec<LineRecord>> {
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (time, origin, line);
            (time, origin, line, rest) = record(rest).ok_or_else(|| damaged("a record is damaged"))?;
            if origin == NAMES_AN_ORIGIN {
                self.name_origin(time, line)?;
                continue;
            }
            let named = usize::try_from(origin).ok().and_then(|number| self.origins.get(number));
            let origin = named.ok_or_else(|| damaged("an origin is not named"))?.clone();
            let time = if time == NO_TIME { None } else { Timestamp::from_nanosecond(time.into()).ok() };
            records.push(LineRecord { time, origin, line: line.to_owned() });
        }
        Ok(records)
    }

    fn name_origin(&mut self, number: i64, name: &[u8]) -> io::Result<()> {
        let name: Arc<str> = String::from_utf8_lossy(name).into();
        match usize::try_from(number) {
            Ok(number) if number < self.origins.len() => self.origins[number] = name,
            Ok(number) if number == self.origins.len() && number < ORIGINS_MAX => self.origins.push(name),
            _ => return Err(damaged("an origin has a wrong number")),
        }
        Ok(())
    }
}

/// Splits off the first record: time, origin, line, and what follows.
fn record(bytes: &[u8]) -> Option<(i64, u32, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(RECORD_HEADER_BYTES)?;
    let time = i64::from_le_bytes(header.get(..8)?.try_into().ok()?);
    let origin = u32::from_le_bytes(header.get(8..12)?.try_into().ok()?);
    let length = u32::from_le_bytes(header.get(12..)?.try_into().ok()?);
    let (line, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((time, origin, line, rest))
}

/// Refuses the length of a block that no sender makes.
fn checked(length: u32) -> io::Result<usize> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length <= BLOCK_BYTES_MAX + BLOCK_BYTES { Ok(length) } else { Err(damaged("a block is too large")) }
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(lines: &[LineRecord]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = RecordEncoder::begin(&mut out).unwrap();
        for line in lines {
            encoder.add(&mut out, line.time, &line.origin, &line.line).unwrap();
        }
        encoder.end(&mut out).unwrap();
        out
    }

    /// Returns the lines before the end, or before the error.
    fn decode(bytes: &[u8]) -> (Vec<LineRecord>, io::Result<()>) {
        let mut lines = Vec::new();
        let mut reader = match RecordReader::begin(bytes) {
            Ok(reader) => reader,
            Err(error) => return (lines, Err(error)),
        };
        loop {
            match reader.part() {
                Ok(Some(StreamPart::Lines(block))) => lines.extend(block),
                Ok(Some(StreamPart::CaughtUp)) => {}
                Ok(None) => return (lines, Ok(())),
                Err(error) => return (lines, Err(error)),
            }
        }
    }

    fn any_line() -> impl Strategy<Value = LineRecord> {
        let time =
            prop::option::of((-1000_i64..4_000_000_000).prop_map(|s| Timestamp::from_second(s).unwrap()));
        let line = prop_oneof![prop::collection::vec(any::<u8>(), 0..200), Just(vec![b'x'; 70_000])];
        (time, "[a-c]{1,3}", line).prop_map(|(time, origin, line)| LineRecord {
            time,
            origin: origin.into(),
            line,
        })
    }

    proptest! {
        #[test]
        fn lines_arrive_as_they_were_sent(lines in prop::collection::vec(any_line(), 0..40)) {
            let (arrived, result) = decode(&encode(&lines));
            prop_assert!(result.is_ok());
            prop_assert_eq!(arrived, lines);
        }

        #[test]
        fn cut_stream_is_noticed(lines in prop::collection::vec(any_line(), 0..10), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&lines);
            let (arrived, result) = decode(&bytes[..cut.index(bytes.len())]);
            prop_assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            prop_assert!(lines.starts_with(&arrived));
        }

        #[test]
        fn foreign_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), is_begun: bool) {
            let bytes = if is_begun { [START, &bytes].concat() } else { bytes };
            let (_, result) = decode(&bytes);
            prop_assert!(result.is_err() || bytes.get(START.len()..START.len() + 4) == Some(&[0; 4]));
        }
    }

    #[test]
    fn end_of_the_old_lines_is_told() {
        let mut out = Vec::new();
        let mut encoder = RecordEncoder::begin(&mut out).unwrap();
        encoder.add(&mut out, None, "a", b"old").unwrap();
        encoder.add(&mut out, None, "a", b"old, too").unwrap();
        encoder.catch_up(&mut out).unwrap();
        encoder.add(&mut out, None, "a", b"new").unwrap();
        encoder.end(&mut out).unwrap();
        let mut reader = RecordReader::begin(&out[..]).unwrap();
        let (mut old, mut has_caught_up) = (0, false);
        while let Some(part) = reader.part().unwrap() {
            match part {
                StreamPart::Lines(lines) if has_caught_up => {
                    assert!(lines.iter().all(|line| line.line == b"new"));
                }
                StreamPart::Lines(lines) => old += lines.len(),
                StreamPart::CaughtUp => has_caught_up = true,
            }
        }
        assert_eq!((old, has_caught_up), (2, true));
    }

    #[test]
    fn origins_may_be_more_than_both_sides_remember() {
        let names = (0..ORIGINS_MAX + 10).chain(0..20);
        let lines: Vec<_> = names
            .map(|name| LineRecord { time: None, origin: name.to_string().into(), line: vec![b'y'] })
            .collect();
        let (arrived, result) = decode(&encode(&lines));
        assert!(result.is_ok() && arrived == lines);
    }

    #[test]
    fn large_block_is_refused_before_it_is_read() {
        let bytes = [START, &(u32::MAX - 1).to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
        assert_eq!(decode(&bytes).1.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
