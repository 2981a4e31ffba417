//! Reads an archive without an index, and copies its content into a new one. Its index was lost, another
//! program made it, or it is damaged.

use crate::archive::decoder::Decoder;
use crate::archive::entry::Origin;
use crate::archive::header::Meta;
use crate::archive::member;
use crate::cycle::assembly::Assembly;
use crate::cycle::superseded;
use crate::error::ArchiveError;
use std::fs::File;
use std::io::{self, BufReader};
use tar::{Archive, EntryType, Header};

/// Copies every complete file of the archive into the draft, except for those that it holds already with the
/// same content. Returns the reason if the archive could not be read to its end.
pub fn adopt(from: &File, assembly: &mut Assembly<'_>) -> Result<Option<String>, ArchiveError> {
    let decoder = match Decoder::new(BufReader::with_capacity(128 * 1024, from)) {
        Ok(decoder) => decoder,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let mut archive = Archive::new(decoder);
    let prefix = assembly.config.prefix.clone();
    let carried = assembly.entries.len();
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => return Ok(Some(error.to_string())),
    };
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Ok(Some(error.to_string())),
        };
        if !matches!(
            entry.header().entry_type(),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse
        ) {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        let plain_name = member::name(&prefix, &path);
        let mut name = plain_name.clone();
        // A tar may hold two members of the same name. Both are kept.
        while assembly.taken.contains(&name) {
            name.extend(b".again");
        }
        let origin = if superseded::is_name(&name) { Origin::Superseded } else { Origin::Recovered };
        let (meta, size) = (meta(entry.header()), entry.size());
        if let Some(why) = assembly.stream(&name, origin, meta, size, &mut entry)? {
            return Ok(Some(why));
        }
        assembly.drop_if_carried(carried, &plain_name)?;
    }
    // Reads to the end, because the checksum follows the last entry.
    Ok(io::copy(&mut archive.into_inner(), &mut io::sink()).err().map(|error| error.to_string()))
}

fn meta(header: &Header) -> Meta {
    let id = |id: io::Result<u64>| u32::try_from(id.unwrap_or(0)).unwrap_or(0);
    Meta {
        mode: header.mode().unwrap_or(0o600) & 0o7777,
        uid: id(header.uid()),
        gid: id(header.gid()),
        mtime_s: header.mtime().unwrap_or(0),
    }
}
