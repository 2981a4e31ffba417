//! Reads a log back into a state: strict about damage and gaps, tolerant of a torn end.

use super::LogError;
use super::frame::{self, Frame};
use super::head::Head;
use super::segment::{self, Header};
use super::walk::{Damage, GroupsEnd, OnDamage, Walk};
use crate::engine::core::Core;
use crate::engine::item::BodyPlace;
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
    /// The end of the last segment.
    pub end: GroupsEnd,
    /// True if a last group was never finished, and therefore never acknowledged. It begins at `end`.
    pub torn: bool,
}

/// Loads the next segment into a buffer; returns its number, or `None` after the last one.
type NextSegment<'a> = Box<dyn FnMut(&mut Vec<u8>) -> Result<Option<u32>, LogError> + 'a>;

/// The segments of a log, in their order.
pub struct LogSource<'a> {
    /// The directory or file that holds the segments, for messages.
    pub place: PathBuf,
    pub head: Option<Head>,
    /// The number of the last segment.
    pub last: Option<u32>,
    pub next: NextSegment<'a>,
}

/// Opens the segments of a directory. `None` if it has no log, or one in which nothing was ever kept.
pub fn open(dir: &Path, head: Option<Head>) -> Result<Option<LogSource<'_>>, LogError> {
    let numbers = segment::list(dir)?;
    if numbers.is_empty() && head.is_none_or(|head| head.newest == 0) {
        return Ok(None);
    }
    let (last, mut numbers) = (numbers.last().copied(), numbers.into_iter());
    let next = move |bytes: &mut Vec<u8>| match numbers.next() {
        Some(number) => load(&segment::path(dir, number), bytes).map(|()| Some(number)),
        None => Ok(None),
    };
    Ok(Some(LogSource { place: dir.to_owned(), head, last, next: Box::new(next) }))
}

/// Reads a directory whose log must be complete. `None` if it has no log yet.
pub fn read(dir: &Path, memory_bytes_max: u64, seed: u64) -> Result<Option<LogContents>, LogError> {
    let Some(mut source) = open(dir, Head::of(dir)?)? else { return Ok(None) };
    let mut found =
        read_with(&mut source, memory_bytes_max, seed, &mut |damage: Damage| Err(damage.error(dir)))?;
    // Version 1 did not count everything.
    found.core.settle_counters();
    Ok(Some(found))
}

/// Reads all segments. Passes each damage to `on_damage`, which decides if the reading continues.
pub fn read_with(
    source: &mut LogSource<'_>,
    memory_bytes_max: u64,
    seed: u64,
    on_damage: &mut OnDamage<'_>,
) -> Result<LogContents, LogError> {
    let LogSource { place, head, last: last_number, next } = source;
    let mut walk = Walk::new(place, *head, on_damage);
    let mut core = None;
    let mut segments = BTreeMap::new();
    let mut last = None;
    let mut bytes = Vec::new();
    while let Some(number) = next(&mut bytes)? {
        segments.insert(number, bytes.len() as u64);
        let Some(header) = walk.header(number, &bytes)? else { continue };
        let core = core.get_or_insert_with(|| Core::reading(header.epoch, seed));
        core.memory_bytes_max_while_reading = memory_bytes_max;
        // Only the last segment may end in an unfinished group; for the others the next segment says where
        // they end.
        let is_last = Some(number) == *last_number;
        let end = walk.groups(&bytes, &header, is_last, |frame, at| apply(core, frame, at, number))?;
        let torn = is_last && is_torn(&bytes, end.offset, header.nonce);
        last = Some((header, end, torn));
    }
    walk.finish()?;
    let (Some((last, end, torn)), Some(mut core)) = (last, core) else {
        let damage =
            Damage { path: place.clone(), offset: Some(0), why: "no segment can be read".to_owned() };
        on_damage(damage.clone())?;
        return Err(damage.error(place));
    };
    core.finish_reading();
    for imbalance in core.imbalances() {
        on_damage(Damage { path: place.clone(), offset: None, why: format!("is incomplete: {imbalance}") })?;
    }
    Ok(LogContents { core, segments, last, end, torn })
}

fn apply(core: &mut Core, frame: &Frame<'_>, at: usize, segment: u32) -> Result<(), String> {
    for record in Record::decode_all(frame.records) {
        let (record, body) = record.map_err(|e| e.to_string())?;
        let offset = u32::try_from(at + frame::HEADER_BYTES + body).map_err(|e| e.to_string())?;
        core.apply(&record, BodyPlace { segment, offset });
    }
    Ok(())
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
