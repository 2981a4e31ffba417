//! Reading a log back into a state: strict about damage, forgiving about a torn end.

use super::LogError;
use super::frame::{self, Frame};
use super::segment::{self, HEADER_BYTES, Header};
use crate::engine::core::Core;
use crate::engine::item::Place;
use crate::engine::record::Record;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a directory holds.
#[derive(Debug)]
pub struct Found {
    pub core: Core,
    /// Bytes of each segment's file.
    pub segments: BTreeMap<u32, u64>,
    pub last: Header,
    /// Where the next group goes in the last segment.
    pub end: u64,
    pub next_group: u64,
    /// Bytes of a last group that was never finished, and so never acknowledged.
    pub torn: Option<Torn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub path: PathBuf,
    pub offset: u64,
}

/// A stretch that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub offset: u64,
    pub why: String,
}

/// Reads all segments of a directory that has some.
pub fn read(dir: &Path, numbers: &[u32], memory_bytes_max: u64, seed: u64) -> Result<Found, LogError> {
    let first_damage = |damage: Damage| LogError::Damaged {
        path: damage.path,
        offset: damage.offset,
        why: damage.why,
        dir: dir.to_owned(),
    };
    read_with(dir, numbers, memory_bytes_max, seed, |damage| Err(first_damage(damage)))
}

/// The same, but every damage is shown to `on_damage`, which decides whether to go on behind it.
pub fn read_with(
    dir: &Path,
    numbers: &[u32],
    memory_bytes_max: u64,
    seed: u64,
    mut on_damage: impl FnMut(Damage) -> Result<(), LogError>,
) -> Result<Found, LogError> {
    let mut reading = Reading { core: None, next_group: None, seed, memory_bytes_max };
    let mut segments = BTreeMap::new();
    let mut last = None;
    let mut bytes = Vec::new();
    let mut expected = numbers.first().copied();
    for &number in numbers {
        let path = segment::path(dir, number);
        if let Some(missing) = expected.filter(|expected| *expected != number) {
            let why = format!("segment {missing} before it is missing");
            on_damage(Damage { path: path.clone(), offset: 0, why })?;
        }
        expected = number.checked_add(1);
        load(&path, &mut bytes)?;
        segments.insert(number, bytes.len() as u64);
        let is_last = Some(&number) == numbers.last();
        let header = match Header::decode(&bytes, &path) {
            Ok(header) if header.number == number => header,
            Ok(_) => {
                let why = "it holds another segment's number".to_owned();
                on_damage(Damage { path, offset: 0, why })?;
                continue;
            }
            Err(LogError::Damaged { offset, why, .. }) => {
                on_damage(Damage { path, offset, why })?;
                continue;
            }
            Err(error) => return Err(error),
        };
        // Only in the last segment may a group be unfinished; in the others the next one says how far it went.
        let end = reading.segment(&bytes, &header, &path, is_last, &mut on_damage)?;
        last = Some((header, end, path));
    }
    let Some((last, end, path)) = last else {
        let damage = Damage { path: dir.to_owned(), offset: 0, why: "no segment can be read".to_owned() };
        on_damage(damage.clone())?;
        let Damage { path, offset, why } = damage;
        return Err(LogError::Damaged { path, offset, why, dir: dir.to_owned() });
    };
    let mut core = reading.core.unwrap_or_else(|| Core::reading(last.epoch, seed));
    core.finish_reading();
    let next_group = reading.next_group.unwrap_or(last.first_group);
    let torn = is_torn(&bytes, end, last.nonce).then_some(Torn { path, offset: end as u64 });
    Ok(Found { core, segments, last, end: end as u64, next_group, torn })
}

struct Reading {
    core: Option<Core>,
    next_group: Option<u64>,
    seed: u64,
    memory_bytes_max: u64,
}

impl Reading {
    /// Applies the groups of one segment; returns where they end.
    fn segment(
        &mut self,
        bytes: &[u8],
        header: &Header,
        path: &Path,
        is_last: bool,
        on_damage: &mut impl FnMut(Damage) -> Result<(), LogError>,
    ) -> Result<usize, LogError> {
        let seed = self.seed;
        self.core.get_or_insert_with(|| Core::reading(header.epoch, seed)).memory_bytes_max_while_reading =
            self.memory_bytes_max;
        let damage =
            |offset: usize, why: String| Damage { path: path.to_owned(), offset: offset as u64, why };
        if let Some(expected) = self.next_group.filter(|next| *next != header.first_group) {
            let first = header.first_group;
            on_damage(damage(0, format!("groups {expected} to {first} before it are missing")))?;
        }
        self.next_group = Some(header.first_group);
        let mut at = HEADER_BYTES;
        loop {
            let next = self.next_group.unwrap_or_default();
            if let Some(frame) = frame::open(bytes, at, header.nonce).filter(|frame| frame.group == next) {
                self.group(&frame, at, header.number)
                    .map_err(|why| damage(at, why))
                    .or_else(&mut *on_damage)?;
                at += frame.bytes();
                continue;
            }
            // Nothing more, or a hole? A group behind the hole tells, if what is missing had to be on the disk
            // when it was written.
            let Some((found, frame)) = frame::find(bytes, at, header.nonce) else { return Ok(at) };
            if is_last && frame.synced() < next {
                return Ok(at);
            }
            let why = format!("the checksum is wrong; the next sound group is at byte {found}");
            on_damage(damage(at, why))?;
            self.next_group = Some(frame.group);
            at = found;
        }
    }

    fn group(&mut self, frame: &Frame<'_>, at: usize, segment: u32) -> Result<(), String> {
        self.next_group = Some(frame.group + 1);
        let Some(core) = &mut self.core else { return Ok(()) };
        for record in Record::decode_all(frame.records) {
            let (record, body) = record.map_err(|e| e.to_string())?;
            let offset = u32::try_from(at + frame::HEADER_BYTES + body).map_err(|e| e.to_string())?;
            core.apply(&record, Place { segment, offset });
        }
        Ok(())
    }
}

/// Whether a group was begun behind the last whole one. What a recycled file held before carries other nonces.
fn is_torn(bytes: &[u8], end: usize, nonce: u32) -> bool {
    bytes.get(end..end + 4) == Some(&nonce.to_le_bytes()) || frame::find(bytes, end, nonce).is_some()
}

/// Reads a file into a buffer that is used again.
pub fn load(path: &Path, bytes: &mut Vec<u8>) -> Result<(), LogError> {
    use std::io::Read;
    bytes.clear();
    let mut file = std::fs::File::open(path).map_err(LogError::io("open", path))?;
    file.read_to_end(bytes).map_err(LogError::io("read", path))?;
    Ok(())
}
