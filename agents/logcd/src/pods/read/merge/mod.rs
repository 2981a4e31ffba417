//! Merges the lines of many places into one output in order of time, in bounded memory.

#[cfg(test)]
mod tests;

use super::line_printer::LinePrinter;
use super::line_source::{FileRange, LINE_BYTES_MAX, LastArchive, LineSource, for_each_line};
use super::members::entry_of;
use super::options::ReadOptions;
use super::reading_order::{LinePlace, sort_time_of};
use crate::archive::decoder::Decoder;
use crate::error::ArchiveError;
use crate::pods::cri::time_of;
use crate::pods::place::ContainerDir;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::rc::Rc;

/// Limit on the bytes of lines that wait until no earlier line can follow. If more lines overlap in time, the
/// places are read several times.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Estimated memory of a waiting line besides its bytes.
const LINE_OVERHEAD_BYTES: usize = 192;
/// Limit on the unpacked bytes of a member. logcd's own members have less than half of this.
const MEMBER_BYTES_MAX: u64 = 4 << 20;
/// The position of a line in the output. Lines with the same sort time are sorted by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    /// The time of the line, or that of the line before it if that is a little later.
    sort_time: Timestamp,
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

/// The first unprinted line of a place.
#[derive(Clone, Copy)]
struct Unprinted {
    number: u64,
    /// The offset in a live log. Members are always read from their start.
    offset: u64,
    /// A lower limit on the sort times of the lines from here on.
    sort_time: Timestamp,
    /// True if an earlier pass has read the place.
    is_begun: bool,
}

/// The last line that was read of a container: its sort time, the rank of its place, and the pass.
struct Latest {
    sort_time: Timestamp,
    rank: usize,
    pass: u32,
}

pub(super) struct Merge<'a, W: Write> {
    options: &'a ReadOptions,
    printer: LinePrinter<'a, W>,
    /// The number of the first uncommitted entry.
    next_entry: u64,
    pending: BTreeMap<LineKey, PendingLine>,
    pending_bytes: usize,
    pending_bytes_max: usize,
    /// The last printed line.
    printed: Option<LineKey>,
    /// The first line that waits for the next pass.
    cut: Option<LineKey>,
    unprinted: Vec<Option<Unprinted>>,
    pass: u32,
    latest: HashMap<Rc<ContainerDir>, Latest>,
    /// The sort times of the lines before each member, by container. A later pass uses them again, so that the
    /// lines keep their keys. Only those later than the member's beginning are listed.
    before: HashMap<usize, Vec<(Rc<ContainerDir>, Timestamp)>>,
    opened: LastArchive,
}

impl<'a, W: Write> Merge<'a, W> {
    pub(super) fn new(options: &'a ReadOptions, out: W, next_entry: u64) -> Merge<'a, W> {
        Merge {
            options,
            printer: LinePrinter::new(options, out),
            next_entry,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            pending_bytes_max: PENDING_BYTES_MAX,
            printed: None,
            cut: None,
            unprinted: Vec::new(),
            pass: 0,
            latest: HashMap::new(),
            before: HashMap::new(),
            opened: LastArchive::default(),
        }
    }

    /// Prints the lines of the places, which must be in reading order. Returns the number of passes.
    pub(super) fn print(mut self, places: &[LinePlace]) -> Result<u32, ArchiveError> {
        let start = |place: &LinePlace| Unprinted {
            number: 0,
            offset: place.source.start(),
            sort_time: place.begin,
            is_begun: false,
        };
        self.unprinted = places.iter().map(|place| Some(start(place))).collect();
        loop {
            self.cut = None;
            self.pass(places)?;
            self.print_before(None).map_err(written)?;
            if self.cut.is_none() {
                break;
            }
            self.pass += 1;
            self.before.retain(|at, _| self.unprinted.get(*at).is_some_and(Option::is_some));
        }
        self.printer.finish().map_err(written)?;
        Ok(self.pass + 1)
    }

    /// Reads the places once, up to the cut.
    fn pass(&mut self, places: &[LinePlace]) -> Result<(), ArchiveError> {
        for (at, place) in places.iter().enumerate() {
            if self.cut.is_some_and(|cut| cut.sort_time < place.begin) {
                break;
            }
            let Some(from) = self.unprinted.get_mut(at).and_then(Option::take) else { continue };
            self.print_before(Some(place.begin)).map_err(written)?;
            match &place.source {
                LineSource::Member { archive, place: range } => {
                    let from = Unprinted { sort_time: place.begin, ..from };
                    let Some(file) =
                        self.opened.get(archive).map_err(ArchiveError::on("read", &archive.path))?
                    else {
                        continue;
                    };
                    self.take_member((at, place.rank), &file, range.clone(), from)
                        .map_err(ArchiveError::on("read", &archive.path))?;
                }
                LineSource::Live { dir, file, is_compressed, .. } => self
                    .take_live((at, place.rank), dir, file, from, *is_compressed)
                    .map_err(ArchiveError::doing(format!("read {dir}")))?,
            }
        }
        Ok(())
    }

    /// Takes the lines of a member, which each pass reads from its beginning. Its lines get the same keys in
    /// each pass, and the keys show which lines are printed already.
    fn take_member(
        &mut self,
        (at, rank): (usize, usize),
        archive: &File,
        range: Range<u64>,
        from: Unprinted,
    ) -> io::Result<()> {
        let packed = BufReader::new(FileRange { file: archive, range });
        let mut tar = tar::Archive::new(Decoder::new(packed)?.take(MEMBER_BYTES_MAX));
        let (mut number, mut sort_times) = (0, HashMap::new());
        for entry in tar.entries()? {
            let entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some((dir, entry_number)) = entry_of(&name) else { continue };
            // Lines of a later commit are printed from the live logs.
            if !self.options.wants(&dir) || entry_number >= self.next_entry {
                continue;
            }
            let dir =
                self.latest.get_key_value(&dir).map_or_else(|| Rc::new(dir.clone()), |(dir, _)| dir.clone());
            let mut last =
                sort_times.get(&dir).copied().or_else(|| self.before_member((at, rank), &dir, from));
            for_each_line(entry, |line| {
                let time = time_of(&line);
                let sort_time =
                    sort_time_of(time, last).map_or(from.sort_time, |own| own.max(from.sort_time));
                last = Some(sort_time);
                let key = LineKey { sort_time, place: at, number };
                number += 1;
                if self.printed.is_none_or(|printed| key > printed) {
                    self.take_line(key, time, &dir, line, 0);
                }
                true
            })?;
            sort_times.extend(last.map(|last| (dir, last)));
        }
        if !from.is_begun {
            let pass = self.pass;
            let latest = |(dir, sort_time)| (dir, Latest { sort_time, rank, pass });
            self.latest.extend(sort_times.into_iter().map(latest));
        }
        Ok(())
    }

    /// Returns the sort time of the last line of a container before a member, if it is later than the member's
    /// beginning. A place of higher rank does not count, even if it was read earlier.
    fn before_member(
        &mut self,
        (at, rank): (usize, usize),
        dir: &Rc<ContainerDir>,
        from: Unprinted,
    ) -> Option<Timestamp> {
        if from.is_begun {
            let (_, sort_time) = self.before.get(&at)?.iter().find(|(before, _)| before == dir)?;
            return Some(*sort_time);
        }
        let before = self.latest.get(dir).filter(|latest| latest.rank < rank);
        let sort_time = before.map(|latest| latest.sort_time).filter(|time| *time > from.sort_time)?;
        self.before.entry(at).or_default().push((dir.clone(), sort_time));
        Some(sort_time)
    }

    /// Takes the lines of a live log, up to the first line beyond the cut. A log of gigabytes is not read
    /// again from its start in each pass: its lines stay in order even if their times go back, so an
    /// offset separates the printed lines from the others.
    fn take_live(
        &mut self,
        (at, rank): (usize, usize),
        dir: &Rc<ContainerDir>,
        file: &File,
        from: Unprinted,
        is_compressed: bool,
    ) -> io::Result<()> {
        let Unprinted { mut number, mut offset, mut sort_time, is_begun } = from;
        // If an earlier pass has read part of the log, only lines of the container that this pass has read
        // count.
        let before = self.latest.get(dir).filter(|latest| latest.rank < rank);
        let before = before.filter(|latest| !is_begun || latest.pass == self.pass);
        let mut before = before.map(|latest| latest.sort_time);
        let mut take = |line: Vec<u8>| {
            // The last line may be unfinished.
            let is_cut = line.len() < LINE_BYTES_MAX && !line.ends_with(b"\n");
            if is_cut && !is_compressed {
                return false;
            }
            let next = offset + line.len() as u64;
            let time = time_of(&line);
            sort_time = sort_time_of(time, before.take()).map_or(sort_time, |own| own.max(sort_time));
            let is_below = self.take_line(LineKey { sort_time, place: at, number }, time, dir, line, offset);
            offset = next;
            number += 1;
            is_below
        };
        if is_compressed {
            let mut plain = MultiGzDecoder::new(FileRange { file, range: 0..u64::MAX });
            io::copy(&mut (&mut plain).take(from.offset), &mut io::sink())?;
            for_each_line(plain, &mut take)?;
        } else {
            for_each_line(FileRange { file, range: from.offset..u64::MAX }, &mut take)?;
        }
        if number > from.number {
            self.latest.insert(dir.clone(), Latest { sort_time, rank, pass: self.pass });
        }
        Ok(())
    }

    /// Keeps a line until it is printed. Returns false if the line is beyond the cut.
    fn take_line(
        &mut self,
        key: LineKey,
        time: Option<Timestamp>,
        dir: &Rc<ContainerDir>,
        bytes: Vec<u8>,
        offset: u64,
    ) -> bool {
        if self.cut.is_some_and(|cut| key >= cut) {
            self.leave(key, offset);
            return false;
        }
        if !self.options.wants_time(time.unwrap_or(key.sort_time)) {
            return true;
        }
        self.pending_bytes += bytes.len() + LINE_OVERHEAD_BYTES;
        self.pending.insert(key, PendingLine { dir: dir.clone(), bytes, offset });
        while self.pending_bytes > self.pending_bytes_max {
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
            *unprinted =
                Some(Unprinted { number: key.number, offset, sort_time: key.sort_time, is_begun: true });
        }
    }

    /// Prints the waiting lines before a time, or all of them.
    fn print_before(&mut self, time: Option<Timestamp>) -> io::Result<()> {
        while let Some(line) = self.pending.first_entry()
            && time.is_none_or(|time| line.key().sort_time < time)
        {
            let (key, line) = line.remove_entry();
            self.pending_bytes -= line.bytes.len() + LINE_OVERHEAD_BYTES;
            self.printed = self.printed.max(Some(key));
            self.printer.print(key.sort_time, &line.dir, &line.bytes)?;
        }
        Ok(())
    }
}

fn written(error: io::Error) -> ArchiveError {
    ArchiveError::doing("write the lines")(error)
}
