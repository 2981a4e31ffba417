//! Reads a log back into a state: strict about damage and gaps, tolerant of a torn end.

use super::LogError;
use super::completeness::Completeness;
use super::frame::{self, Frame};
use super::head::Head;
use super::segment::{self, End, Header};
use crate::engine::core::Core;
use crate::engine::item::Place;
use crate::engine::record::Record;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The contents of a log.
#[derive(Debug)]
pub struct LogContents {
    pub core: Core,
    /// Bytes of each segment's file.
    pub segments: BTreeMap<u32, u64>,
    pub last: Header,
    /// The offset of the next group in the last segment.
    pub end: u64,
    /// The checksum of the last group of the last segment, 0 if it has none.
    pub end_checksum: u32,
    pub next_group: u64,
    /// The start of a last group that was never finished, and therefore never acknowledged.
    pub torn: Option<Torn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub path: PathBuf,
    pub offset: u64,
}

/// Something that cannot be read, or is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// The offset in the file, if the file exists.
    pub offset: Option<u64>,
    pub why: String,
}

impl Damage {
    pub fn error(self, dir: &Path) -> LogError {
        let (path, why, dir) = (self.path, self.why, dir.to_owned());
        match self.offset {
            Some(offset) => LogError::Damaged { path, offset, why, dir },
            None => LogError::Incomplete { path, why, dir },
        }
    }
}

/// The segments of a log, in their order.
pub trait SegmentSource {
    /// The directory or file that holds the segments, for messages.
    fn place(&self) -> &Path;
    fn head(&self) -> Option<Head>;
    /// The number of the last segment.
    fn last(&self) -> Option<u32>;
    /// Loads the next segment; returns its number.
    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<u32>, LogError>;
}

/// The segments in a directory.
#[derive(Debug)]
pub struct SegmentFiles {
    dir: PathBuf,
    head: Option<Head>,
    numbers: Vec<u32>,
    at: usize,
}

impl SegmentFiles {
    /// Opens the segments of a directory. `None` if it has no log, or one in which nothing was ever kept.
    pub fn of(dir: &Path, head: Option<Head>) -> Result<Option<SegmentFiles>, LogError> {
        let numbers = segment::list(dir)?;
        if numbers.is_empty() && head.is_none_or(|head| head.newest == 0) {
            return Ok(None);
        }
        Ok(Some(SegmentFiles { dir: dir.to_owned(), head, numbers, at: 0 }))
    }

    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }
}

impl SegmentSource for SegmentFiles {
    fn place(&self) -> &Path {
        &self.dir
    }

    fn head(&self) -> Option<Head> {
        self.head
    }

    fn last(&self) -> Option<u32> {
        self.numbers.last().copied()
    }

    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<u32>, LogError> {
        let Some(number) = self.numbers.get(self.at).copied() else { return Ok(None) };
        self.at += 1;
        load(&segment::path(&self.dir, number), bytes)?;
        Ok(Some(number))
    }
}

/// Reads a directory whose log must be complete. `None` if it has no log yet.
pub fn read(dir: &Path, memory_bytes_max: u64, seed: u64) -> Result<Option<LogContents>, LogError> {
    let Some(mut files) = SegmentFiles::of(dir, Head::of(dir)?)? else { return Ok(None) };
    let mut found = read_with(&mut files, memory_bytes_max, seed, |damage| Err(damage.error(dir)))?;
    // Version 1 did not count everything.
    found.core.settle_counters();
    Ok(Some(found))
}

/// Reads all segments. Passes each damage to `on_damage`, which decides if the reading continues.
pub fn read_with(
    source: &mut impl SegmentSource,
    memory_bytes_max: u64,
    seed: u64,
    mut on_damage: impl FnMut(Damage) -> Result<(), LogError>,
) -> Result<LogContents, LogError> {
    let place = source.place().to_owned();
    let mut walk = Walk::new(&place, source.head());
    let mut core = None;
    let mut segments = BTreeMap::new();
    let mut last = None;
    let mut bytes = Vec::new();
    let last_number = source.last();
    while let Some(number) = source.next(&mut bytes)? {
        segments.insert(number, bytes.len() as u64);
        let Some(header) = walk.header(number, &bytes, &mut on_damage)? else { continue };
        let core = core.get_or_insert_with(|| Core::reading(header.epoch, seed));
        core.memory_bytes_max_while_reading = memory_bytes_max;
        // Only the last segment may end in an unfinished group; for the others the next segment says where
        // they end.
        let is_last = Some(number) == last_number;
        let end = walk.groups(&bytes, &header, is_last, &mut on_damage, |frame, at| {
            apply(core, frame, at, header.number)
        })?;
        let torn = is_last && is_torn(&bytes, end.offset, header.nonce);
        last = Some((header, end, torn));
    }
    walk.finish().map_or(Ok(()), &mut on_damage)?;
    let (Some((last, end, torn)), Some(mut core)) = (last, core) else {
        let damage =
            Damage { path: place.clone(), offset: Some(0), why: "no segment can be read".to_owned() };
        on_damage(damage.clone())?;
        return Err(damage.error(&place));
    };
    core.finish_reading();
    for imbalance in core.imbalances() {
        on_damage(Damage { path: place.clone(), offset: None, why: format!("is incomplete: {imbalance}") })?;
    }
    let next_group = walk.next_group.unwrap_or(last.first_group);
    let offset = end.offset as u64;
    let torn = torn.then(|| Torn { path: segment::path(&place, last.number), offset });
    Ok(LogContents { core, segments, last, end: offset, end_checksum: end.checksum, next_group, torn })
}

fn apply(core: &mut Core, frame: &Frame<'_>, at: usize, segment: u32) -> Result<(), String> {
    for record in Record::decode_all(frame.records) {
        let (record, body) = record.map_err(|e| e.to_string())?;
        let offset = u32::try_from(at + frame::HEADER_BYTES + body).map_err(|e| e.to_string())?;
        core.apply(&record, Place { segment, offset });
    }
    Ok(())
}

/// Walks through the segments of a log, from group to group.
#[derive(Debug)]
pub struct Walk {
    place: PathBuf,
    completeness: Completeness,
    pub next_group: Option<u64>,
}

/// The end of the last whole group of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupsEnd {
    pub offset: usize,
    pub checksum: u32,
}

impl Walk {
    pub fn new(place: &Path, head: Option<Head>) -> Walk {
        Walk { place: place.to_owned(), completeness: Completeness::new(place, head), next_group: None }
    }

    /// Reads the header of the next segment, if that is possible.
    pub fn header(
        &mut self,
        number: u32,
        bytes: &[u8],
        on_damage: &mut impl FnMut(Damage) -> Result<(), LogError>,
    ) -> Result<Option<Header>, LogError> {
        let path = segment::path(&self.place, number);
        self.completeness.file(number).map_or(Ok(()), &mut *on_damage)?;
        match Header::decode(bytes, &path) {
            Ok(header) if header.number == number => {
                let continues = self.next_group == Some(header.first_group);
                self.completeness.header(&header, continues).map_or(Ok(()), on_damage)?;
                Ok(Some(header))
            }
            Ok(_) => {
                let why = "its header has another segment's number".to_owned();
                on_damage(Damage { path, offset: Some(0), why }).map(|()| None)
            }
            Err(LogError::Damaged { offset, why, .. }) => {
                on_damage(Damage { path, offset: Some(offset), why }).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Passes the groups of one segment to `on_group`; returns their end.
    pub fn groups(
        &mut self,
        bytes: &[u8],
        header: &Header,
        is_last: bool,
        on_damage: &mut impl FnMut(Damage) -> Result<(), LogError>,
        mut on_group: impl FnMut(&Frame<'_>, usize) -> Result<(), String>,
    ) -> Result<GroupsEnd, LogError> {
        let path = segment::path(&self.place, header.number);
        let damage = |offset: usize, why: String| {
            let offset = Some(offset as u64);
            Damage { path: path.clone(), offset, why }
        };
        if let Some(expected) = self.next_group.filter(|next| *next != header.first_group) {
            let first = header.first_group;
            on_damage(damage(0, format!("groups {expected} to {first} before it are missing")))?;
        }
        let mut next = header.first_group;
        let mut end = GroupsEnd { offset: header.bytes(), checksum: 0 };
        let mut whole = true;
        loop {
            let here = frame::open(bytes, end.offset, header.nonce);
            if let Some(frame) = here.filter(|frame| frame.group == next) {
                next = frame.group + 1;
                on_group(&frame, end.offset)
                    .map_err(|why| damage(end.offset, why))
                    .or_else(&mut *on_damage)?;
                end = GroupsEnd { offset: end.offset + frame.bytes(), checksum: frame.checksum };
                continue;
            }
            // Either the end or a hole. A group after the hole shows whether the missing ones had to be on
            // the disk when it was written.
            let Some((found, frame)) = frame::find(bytes, end.offset, header.nonce) else { break };
            if is_last && frame.synced() < next {
                break;
            }
            whole = false;
            let why = match here {
                Some(other) => format!("group {} is here instead of group {next}", other.group),
                None => format!("the checksum is wrong; the next sound group is at byte {found}"),
            };
            on_damage(damage(end.offset, why))?;
            next = frame.group;
            end.offset = found;
        }
        self.next_group = Some(next);
        let ended = End { nonce: header.nonce, checksum: end.checksum };
        self.completeness.end(whole.then_some(ended));
        Ok(end)
    }

    /// Checks for missing groups or segments after the last segment.
    pub fn finish(&self) -> Option<Damage> {
        self.completeness.finish(self.next_group.unwrap_or_default())
    }
}

/// True if another group was begun after the last whole one. The earlier contents of a recycled file carry
/// other nonces.
fn is_torn(bytes: &[u8], end: usize, nonce: u32) -> bool {
    bytes.get(end..end + 4) == Some(&nonce.to_le_bytes()) || frame::find(bytes, end, nonce).is_some()
}

/// Reads a file into a reusable buffer.
pub fn load(path: &Path, bytes: &mut Vec<u8>) -> Result<(), LogError> {
    use std::io::Read;
    bytes.clear();
    let mut file = std::fs::File::open(path).map_err(LogError::io("open", path))?;
    file.read_to_end(bytes).map_err(LogError::io("read", path))?;
    Ok(())
}
