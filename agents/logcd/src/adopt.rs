//! Taking over an archive that there is no index for: a lost index, another program's archive, a torn one.

use crate::assembly::Assembly;
use crate::entry::{Meta, Origin};
use crate::superseded;
use crate::trouble::Trouble;
use flate2::bufread::MultiGzDecoder;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader};
use tar::{Archive, EntryType, Header};

/// Copies every complete file of the archive into the draft, in blocks. Says why where the archive could not
/// be read to its end.
pub fn adopt(from: &File, assembly: &mut Assembly<'_>) -> Result<Option<String>, Trouble> {
    let mut archive = Archive::new(MultiGzDecoder::new(BufReader::with_capacity(128 * 1024, from)));
    let prefix = assembly.config.prefix.clone();
    let mut names = HashSet::new();
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
        let member = entry.path_bytes().into_owned();
        let mut name = member.strip_prefix(prefix.as_slice()).unwrap_or(&member).to_vec();
        // A tar may hold two members of one name. What both of them held stays.
        while !names.insert(name.clone()) {
            name.extend(b".again");
        }
        let origin = if superseded::is_name(&name) { Origin::Superseded } else { Origin::Recovered };
        let (meta, size) = (meta(entry.header()), entry.size());
        if let Some(why) = assembly.stream(&name, origin, meta, size, &mut entry)? {
            return Ok(Some(why));
        }
    }
    // What is behind the last entry matters too: the checksum of everything before.
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
