//! Prints the lines of many places in the order of time, in bounded memory.

use super::{LinePlace, LineSource, ReadFormat, ReadOptions};
use crate::archive::decoder::Decoder;
use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::cri::{CriLine, time_of};
use crate::pods::followed_log::ENTRY_BYTES_MAX;
use crate::pods::place::ContainerDir;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::rc::Rc;

/// Limit on the lines that wait until no earlier line can follow. If more of them overlap in time, the places are
/// read several times.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// The memory of a waiting line besides its bytes, about.
const LINE_OVERHEAD_BYTES: usize = 192;
/// A longer line is cut, as in archives.
const LINE_BYTES_MAX: usize = ENTRY_BYTES_MAX;
/// Limit on the unpacked bytes of a member. logcd makes none of half this size.
const MEMBER_BYTES_MAX: u64 = 4 << 20;
/// A joined line is cut at this length, because a container may never end its line.
const JOINED_BYTES_MAX: usize = 1 << 20;

/// The position of a line in the output: lines of the same time are in the order of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    time: Timestamp,
    place: usize,
    /// The number of the line in its place.
    number: u64,
}

/// A line that is printed once no earlier line can follow.
struct PendingLine {
    dir: Rc<ContainerDir>,
    bytes: Vec<u8>,
    offset: u64,
}

/// The first line of a place that is not printed yet.
#[derive(Clone, Copy)]
struct Unprinted {
    number: u64,
    /// The offset in a live log. Members are read from their start.
    offset: u64,
    /// The time of the lines before it: no line is printed under an earlier one.
    time: Timestamp,
}

/// The beginning of a line whose parts are joined.
struct Joined {
    time: Timestamp,
    content: Vec<u8>,
}

pub struct Merge<'a, W: Write> {
    options: &'a ReadOptions,
    out: W,
    /// The number of the first entry that is not committed.
    next_entry: u64,
    pending: BTreeMap<LineKey, PendingLine>,
    pending_bytes: usize,
    printed: Option<LineKey>,
    /// Lines from here on wait for the next pass.
    cut: Option<LineKey>,
    unprinted: Vec<Option<Unprinted>>,
    joined: HashMap<(Rc<ContainerDir>, String), Joined>,
}

impl<'a, W: Write> Merge<'a, W> {
    pub fn new(options: &'a ReadOptions, out: W, next_entry: u64) -> Merge<'a, W> {
        Merge {
            options,
            out,
            next_entry,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            printed: None,
            cut: None,
            unprinted: Vec::new(),
            joined: HashMap::new(),
        }
    }

    /// Prints the lines of the places, which are sorted by their first times.
    pub fn print(mut self, places: &[LinePlace]) -> Result<(), ArchiveError> {
        let start =
            |place: &LinePlace| Unprinted { number: 0, offset: place.source.start(), time: place.first() };
        self.unprinted = places.iter().map(|place| Some(start(place))).collect();
        loop {
            self.cut = None;
            self.pass(places)?;
            self.print_before(Timestamp::MAX).map_err(written)?;
            if self.cut.is_none() {
                break;
            }
        }
        for ((dir, stream), joined) in std::mem::take(&mut self.joined) {
            self.put(&dir, &stream, &joined).map_err(written)?;
        }
        self.out.flush().map_err(written)
    }

    /// Reads the places once, up to the cut.
    fn pass(&mut self, places: &[LinePlace]) -> Result<(), ArchiveError> {
        for (at, place) in places.iter().enumerate() {
            if self.cut.is_some_and(|cut| cut.time < place.first()) {
                break;
            }
            let Some(from) = self.unprinted.get_mut(at).and_then(Option::take) else { continue };
            self.print_before(place.first()).map_err(written)?;
            match &place.source {
                LineSource::Member { archive, place: range } => self
                    .take_member(at, &archive.1, range.clone(), place.first())
                    .map_err(ArchiveError::on("read", &archive.0))?,
                LineSource::Live { dir, file, is_compressed, .. } => self
                    .take_live(at, dir, file, from, *is_compressed)
                    .map_err(ArchiveError::doing(format!("read {dir}")))?,
            }
        }
        Ok(())
    }

    fn take_member(
        &mut self,
        at: usize,
        archive: &File,
        range: Range<u64>,
        first: Timestamp,
    ) -> io::Result<()> {
        let packed = BufReader::new(FileRange { file: archive, range });
        let mut tar = tar::Archive::new(Decoder::new(packed)?.take(MEMBER_BYTES_MAX));
        let mut number = 0;
        for entry in tar.entries()? {
            let entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some((dir, entry_number)) = super::entry_of(&name) else { continue };
            // Lines of a later commit are printed from the live logs.
            if !self.options.wants(&dir) || entry_number >= self.next_entry {
                continue;
            }
            let (dir, mut time) = (Rc::new(dir), first);
            for_each_line(entry, |line| {
                time = time_of(&line).map_or(time, |own| own.max(time));
                self.take_line(LineKey { time, place: at, number }, &dir, line, 0);
                number += 1;
                true
            })?;
        }
        Ok(())
    }

    fn take_live(
        &mut self,
        at: usize,
        dir: &Rc<ContainerDir>,
        file: &File,
        from: Unprinted,
        is_compressed: bool,
    ) -> io::Result<()> {
        let Unprinted { mut number, mut offset, mut time } = from;
        let mut take = |line: Vec<u8>| {
            // The last line may still be unfinished.
            let is_cut = line.len() < LINE_BYTES_MAX && !line.ends_with(b"\n");
            if is_cut && !is_compressed {
                return false;
            }
            let next = offset + line.len() as u64;
            time = time_of(&line).map_or(time, |own| own.max(time));
            let is_below = self.take_line(LineKey { time, place: at, number }, dir, line, offset);
            offset = next;
            number += 1;
            is_below
        };
        if is_compressed {
            let mut plain = MultiGzDecoder::new(FileRange { file, range: 0..u64::MAX });
            io::copy(&mut (&mut plain).take(from.offset), &mut io::sink())?;
            for_each_line(plain, &mut take)
        } else {
            for_each_line(FileRange { file, range: from.offset..u64::MAX }, &mut take)
        }
    }

    /// Keeps a line until it is printed. Returns false if the line is beyond the cut.
    fn take_line(&mut self, key: LineKey, dir: &Rc<ContainerDir>, bytes: Vec<u8>, offset: u64) -> bool {
        if self.cut.is_some_and(|cut| key >= cut) {
            self.leave(key, offset);
            return false;
        }
        let is_printed = self.printed.is_some_and(|printed| key <= printed);
        if is_printed || !self.options.wants_time(time_of(&bytes).unwrap_or(key.time)) {
            return true;
        }
        self.pending_bytes += bytes.len() + LINE_OVERHEAD_BYTES;
        self.pending.insert(key, PendingLine { dir: dir.clone(), bytes, offset });
        while self.pending_bytes > PENDING_BYTES_MAX {
            let Some((last, line)) = self.pending.pop_last() else { break };
            self.pending_bytes -= line.bytes.len() + LINE_OVERHEAD_BYTES;
            self.cut = Some(last);
            self.leave(last, line.offset);
        }
        true
    }

    /// Leaves a line for the next pass.
    fn leave(&mut self, key: LineKey, offset: u64) {
        if let Some(unprinted) = self.unprinted.get_mut(key.place)
            && unprinted.is_none_or(|unprinted| key.number < unprinted.number)
        {
            *unprinted = Some(Unprinted { number: key.number, offset, time: key.time });
        }
    }

    fn print_before(&mut self, time: Timestamp) -> io::Result<()> {
        while let Some(line) = self.pending.first_entry()
            && (line.key().time < time || time == Timestamp::MAX)
        {
            let (key, line) = line.remove_entry();
            self.pending_bytes -= line.bytes.len() + LINE_OVERHEAD_BYTES;
            self.printed = Some(key);
            self.print_line(key.time, &line)?;
        }
        Ok(())
    }

    fn print_line(&mut self, time: Timestamp, line: &PendingLine) -> io::Result<()> {
        let bytes = line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes);
        let parsed = CriLine::parse(bytes);
        let content = parsed.map_or(bytes, |parsed| parsed.content);
        if self.options.output == ReadFormat::Raw {
            return match self.passes(content) {
                true => self.out.write_all(&[bytes, b"\n"].concat()),
                false => Ok(()),
            };
        }
        let stream = parsed.map_or("", |parsed| parsed.stream);
        let key = (line.dir.clone(), stream.to_owned());
        let joined = self.joined.remove(&key);
        let mut joined = joined.unwrap_or(Joined { time, content: Vec::new() });
        joined.content.extend(content);
        let is_partial = parsed.is_some_and(|parsed| parsed.is_partial);
        if is_partial && joined.content.len() < JOINED_BYTES_MAX {
            self.joined.insert(key, joined);
            return Ok(());
        }
        self.put(&line.dir, stream, &joined)
    }

    fn passes(&self, content: &[u8]) -> bool {
        self.options.grep.as_ref().is_none_or(|grep| grep.is_match(content))
    }

    fn put(&mut self, dir: &ContainerDir, stream: &str, joined: &Joined) -> io::Result<()> {
        if !self.passes(&joined.content) {
            return Ok(());
        }
        if self.options.output == ReadFormat::Json {
            let shown = JsonLine {
                time: joined.time.to_string(),
                namespace: &dir.pod.namespace,
                pod: &dir.pod.pod,
                uid: &dir.pod.uid,
                container: &dir.container,
                stream,
                line: &String::from_utf8_lossy(&joined.content),
            };
            serde_json::to_writer(&mut self.out, &shown)?;
        } else {
            self.out.write_all(&joined.content)?;
        }
        self.out.write_all(b"\n")
    }
}

fn written(error: io::Error) -> ArchiveError {
    ArchiveError::doing("write the lines")(error)
}

/// Reads lines until `take` returns false. Longer lines than an entry are cut.
fn for_each_line(from: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) -> io::Result<()> {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    loop {
        let mut line = Vec::new();
        (&mut from).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() || !take(line) {
            return Ok(());
        }
    }
}

/// A part of a file, read without moving the file's position.
struct FileRange<'a> {
    file: &'a File,
    range: Range<u64>,
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end.saturating_sub(self.range.start)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let read = read_full_at(self.file, &mut buffer[..len], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    namespace: &'a str,
    pod: &'a str,
    uid: &'a str,
    container: &'a str,
    stream: &'a str,
    line: &'a str,
}
