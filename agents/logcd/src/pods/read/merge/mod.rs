//! Merges the lines of many places into one output in order of time, in bounded memory.

#[cfg(test)]
mod tests;

use super::archives::{entry_of, expand};
use super::line_printer::LinePrinter;
use super::line_source::{FileRange, LINE_BYTES_MAX, LastArchive, LineSource, for_each_line};
use super::options::ReadOptions;
use super::reading_order::{PlaceKey, Rank, sort_time_of};
use crate::archive::decoder::Decoder;
use crate::error::ArchiveError;
use crate::pods::cri::time_of;
use crate::pods::place::ContainerDir;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::ops::{Bound, Range};
use std::rc::Rc;

/// Limit on the bytes of lines that wait until no earlier line can follow. If more lines overlap in time, the
/// places are read several times.
const PENDING_BYTES_MAX: usize = 8 << 20;
/// Estimated memory of a waiting line besides its bytes.
const LINE_OVERHEAD_BYTES: usize = 224;
/// Limit on the unpacked bytes of a member. logcd's own members have less than half of this.
const MEMBER_BYTES_MAX: u64 = 4 << 20;
/// The number of containers whose last lines are noted before those that no longer matter are dropped.
const LATEST_MIN: usize = 1024;

/// The position of a line in the output. Lines with the same sort time are sorted by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    /// The time of the line, or that of the line before it if that is a little later.
    sort_time: Timestamp,
    place: PlaceKey,
    /// The number of the line in its place.
    number: u64,
}

/// A live log, and the end up to which it is read.
struct FileUpTo<'a> {
    file: &'a File,
    end: u64,
}

/// A line that is printed once no earlier line can follow.
struct PendingLine {
    place: Rc<ReachedPlace>,
    dir: Rc<ContainerDir>,
    bytes: Vec<u8>,
    offset: u64,
}

/// A place that has been reached. It is dropped once all its lines are printed.
struct ReachedPlace {
    key: PlaceKey,
    source: LineSource,
    /// The sort times of the lines before a member, by container. A later pass uses them again, so that the
    /// lines keep their keys. Only those later than the member's beginning are listed.
    before: RefCell<Vec<(Rc<ContainerDir>, Timestamp)>>,
}

impl ReachedPlace {
    fn new(key: PlaceKey, source: LineSource) -> ReachedPlace {
        ReachedPlace { key, source, before: RefCell::default() }
    }
}

/// A place with lines that are not printed yet.
struct UnprintedPlace {
    place: Rc<ReachedPlace>,
    from: Unprinted,
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
    rank: Rank,
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
    /// The places that wait to be read, or to be read again by the next pass.
    unprinted: BTreeMap<PlaceKey, UnprintedPlace>,
    /// The largest number of these places at once.
    places_max: usize,
    pass: u32,
    latest: HashMap<Rc<ContainerDir>, Latest>,
    /// The size of `latest` at which it is searched for entries that no longer matter.
    latest_max: usize,
    opened: LastArchive,
}

impl<'a, W: Write> Merge<'a, W> {
    pub(super) fn new(
        options: &'a ReadOptions,
        printer: LinePrinter<'a, W>,
        next_entry: u64,
    ) -> Merge<'a, W> {
        Merge {
            options,
            printer,
            next_entry,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            pending_bytes_max: PENDING_BYTES_MAX,
            printed: None,
            cut: None,
            unprinted: BTreeMap::new(),
            places_max: 0,
            pass: 0,
            latest: HashMap::new(),
            latest_max: LATEST_MIN,
            opened: LastArchive::default(),
        }
    }

    /// Prints the lines of the places. Returns the printer for further lines, the number of passes, and the
    /// largest number of places at once.
    pub(super) fn print(
        mut self,
        places: BTreeMap<PlaceKey, LineSource>,
    ) -> Result<(LinePrinter<'a, W>, u32, usize), ArchiveError> {
        self.add(places);
        loop {
            self.cut = None;
            self.pass()?;
            self.print_before(None).map_err(written)?;
            if self.cut.is_none() {
                break;
            }
            self.pass += 1;
        }
        Ok((self.printer, self.pass + 1, self.places_max))
    }

    /// Adds places that are not read yet.
    fn add(&mut self, places: impl IntoIterator<Item = (PlaceKey, LineSource)>) {
        for (key, source) in places {
            let (offset, sort_time) = (source.start(), key.begin);
            let from = Unprinted { number: 0, offset, sort_time, is_begun: false };
            let place = Rc::new(ReachedPlace::new(key, source));
            self.unprinted.insert(key, UnprintedPlace { place, from });
        }
        self.places_max = self.places_max.max(self.unprinted.len());
    }

    /// Reads the places once, up to the cut.
    fn pass(&mut self) -> Result<(), ArchiveError> {
        let mut next = Bound::Unbounded;
        while let Some(key) = self.unprinted.range((next, Bound::Unbounded)).next().map(|(key, _)| *key) {
            if self.cut.is_some_and(|cut| cut.sort_time < key.begin) {
                break;
            }
            let Some(UnprintedPlace { place, from }) = self.unprinted.remove(&key) else { break };
            self.print_before(Some(key.begin)).map_err(written)?;
            self.printer.stay_alive().map_err(written)?;
            self.forget_containers(key.begin);
            next = Bound::Excluded(key);
            match &place.source {
                LineSource::Archive { archive, later } => {
                    let failed = |error| ArchiveError::on("read", &archive.path())(error);
                    if let Some(file) = self.opened.get(archive).map_err(failed)? {
                        let members = expand(self.options, key, archive, &file, later.clone());
                        self.add(members.map_err(failed)?);
                    }
                    // The first member begins with its archive.
                    next = Bound::Included(key);
                }
                LineSource::Member { archive, place: range } => {
                    let failed = |error| ArchiveError::on("read", &archive.path())(error);
                    let from = Unprinted { sort_time: key.begin, ..from };
                    if let Some(file) = self.opened.get(archive).map_err(failed)? {
                        self.take_member(&place, &file, range.clone(), from).map_err(failed)?;
                    }
                }
                LineSource::Live { dir, file, end, is_compressed, .. } => self
                    .take_live(&place, dir, &FileUpTo { file, end: *end }, from, *is_compressed)
                    .map_err(ArchiveError::doing(format!("read {dir}")))?,
            }
        }
        Ok(())
    }

    /// Drops the last lines of containers that do not matter to places that begin at `begin` or later. They
    /// are usually those of pods that were deleted long before.
    fn forget_containers(&mut self, begin: Timestamp) {
        if self.latest.len() >= self.latest_max {
            self.latest.retain(|_, latest| latest.sort_time > begin);
            self.latest_max = LATEST_MIN.max(self.latest.len() * 2);
        }
    }

    /// Takes the lines of a member, which each pass reads from its beginning. Its lines get the same keys in
    /// each pass, and the keys show which lines are printed already.
    fn take_member(
        &mut self,
        place: &Rc<ReachedPlace>,
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
            let mut last = sort_times.get(&dir).copied().or_else(|| self.before_member(place, &dir, from));
            for_each_line(entry, |line| {
                let time = time_of(&line);
                let sort_time =
                    sort_time_of(time, last).map_or(from.sort_time, |own| own.max(from.sort_time));
                last = Some(sort_time);
                let key = LineKey { sort_time, place: place.key, number };
                number += 1;
                if self.printed.is_none_or(|printed| key > printed) {
                    self.take_line(key, time, (place, &dir), line, 0);
                }
                true
            })?;
            sort_times.extend(last.map(|last| (dir, last)));
        }
        if !from.is_begun {
            let (rank, pass) = (place.key.rank, self.pass);
            let latest = |(dir, sort_time)| (dir, Latest { sort_time, rank, pass });
            self.latest.extend(sort_times.into_iter().map(latest));
        }
        Ok(())
    }

    /// Returns the sort time of the last line of a container before a member, if it is later than the member's
    /// beginning. A place of higher rank does not count, even if it was read earlier.
    fn before_member(
        &self,
        place: &ReachedPlace,
        dir: &Rc<ContainerDir>,
        from: Unprinted,
    ) -> Option<Timestamp> {
        if from.is_begun {
            let before = place.before.borrow();
            return before.iter().find(|(before, _)| before == dir).map(|(_, sort_time)| *sort_time);
        }
        let before = self.latest.get(dir).filter(|latest| latest.rank < place.key.rank);
        let sort_time = before.map(|latest| latest.sort_time).filter(|time| *time > from.sort_time)?;
        place.before.borrow_mut().push((dir.clone(), sort_time));
        Some(sort_time)
    }

    /// Takes the lines of a live log, up to the first line beyond the cut. Its lines stay in order even if
    /// their times go back, so an offset separates the printed lines from the others. Each pass starts there,
    /// and does not read gigabytes again.
    fn take_live(
        &mut self,
        place: &Rc<ReachedPlace>,
        dir: &Rc<ContainerDir>,
        live: &FileUpTo<'_>,
        from: Unprinted,
        is_compressed: bool,
    ) -> io::Result<()> {
        let Unprinted { mut number, mut offset, mut sort_time, is_begun } = from;
        // If an earlier pass has read part of the log, only lines of the container that this pass has read
        // count.
        let rank = place.key.rank;
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
            let key = LineKey { sort_time, place: place.key, number };
            let is_below = self.take_line(key, time, (place, dir), line, offset);
            offset = next;
            number += 1;
            is_below
        };
        if is_compressed {
            let mut plain = MultiGzDecoder::new(FileRange { file: live.file, range: 0..u64::MAX });
            io::copy(&mut (&mut plain).take(from.offset), &mut io::sink())?;
            for_each_line(plain, &mut take)?;
        } else {
            for_each_line(FileRange { file: live.file, range: from.offset..live.end }, &mut take)?;
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
        (place, dir): (&Rc<ReachedPlace>, &Rc<ContainerDir>),
        bytes: Vec<u8>,
        offset: u64,
    ) -> bool {
        if self.cut.is_some_and(|cut| key >= cut) {
            self.leave(key, place, offset);
            return false;
        }
        if !self.options.wants_time(time.unwrap_or(key.sort_time)) {
            return true;
        }
        self.pending_bytes += bytes.len() + LINE_OVERHEAD_BYTES;
        self.pending.insert(key, PendingLine { place: place.clone(), dir: dir.clone(), bytes, offset });
        while self.pending_bytes > self.pending_bytes_max {
            let Some((last, line)) = self.pending.pop_last() else { break };
            self.pending_bytes -= line.bytes.len() + LINE_OVERHEAD_BYTES;
            self.cut = Some(last);
            self.leave(last, &line.place, line.offset);
        }
        true
    }

    /// Leaves a line for the next pass.
    fn leave(&mut self, key: LineKey, place: &Rc<ReachedPlace>, offset: u64) {
        let from = Unprinted { number: key.number, offset, sort_time: key.sort_time, is_begun: true };
        let left = self.unprinted.entry(place.key).or_insert(UnprintedPlace { place: place.clone(), from });
        if from.number < left.from.number {
            left.from = from;
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

pub(super) fn written(error: io::Error) -> ArchiveError {
    ArchiveError::doing("write the lines")(error)
}
