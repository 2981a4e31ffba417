//! Finds the archives with lines that may be wanted, and their members.

use super::WantedPlaces;
use super::line_source::{FoundArchive, LineSource};
use super::options::ReadOptions;
use super::reading_order::{Beginnings, PlaceKey, Rank};
use crate::archive::codec::Codec;
use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::hour::ArchiveName;
use crate::pods::hour_archive::{is_no_file, undrafted};
use crate::pods::place::{ContainerDir, is_label};
use crate::pods::veil::{self, ArchivePart, PART_BYTES, TimedMember};
use crate::safe_dir::{SafeDir, status_of};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::rc::Rc;

/// Finds the archives. Returns those that were seen, by namespace and name. An archive that gets its name
/// meanwhile may be missing.
pub(super) fn find_archives(
    options: &ReadOptions,
    with_drafts: bool,
    found: &mut WantedPlaces,
) -> Result<BTreeSet<(String, String)>, ArchiveError> {
    let mut seen = BTreeSet::new();
    let opened = options.pods_out.canonicalize().and_then(|path| SafeDir::open(&path));
    let out = Rc::new(opened.map_err(ArchiveError::on("read", &options.pods_out))?);
    let mut number = 0_u32;
    let listed = out.names(b"").map_err(ArchiveError::on("list", out.path()))?;
    for namespace in listed.into_iter().filter(|name| is_label(name)) {
        if !options.wants_namespace(&namespace) {
            continue;
        }
        let path = out.path().join(&namespace);
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let of: Rc<str> = namespace.as_str().into();
        let mut beginnings = found.live_beginnings.remove(&*of).unwrap_or_default();
        // In this order, the parts of an hour follow each other.
        let mut listed = out.names(namespace.as_bytes()).map_err(ArchiveError::on("list", &path))?;
        listed.sort_by_key(|name| undrafted(name).parse::<ArchiveName>().ok());
        let first = number;
        number = u32::try_from(listed.len()).map_or(u32::MAX, |count| first.saturating_add(count));
        // The beginning of an archive depends on the archives after it.
        for (name, number) in listed.into_iter().zip(first..number).rev() {
            // For a moment after its first commit, a new archive still has a draft's name.
            let archive_name = undrafted(&name);
            let Ok(hour) = archive_name.parse::<ArchiveName>() else { continue };
            if archive_name != name && !with_drafts {
                continue;
            }
            let path = path.join(&name);
            let file = match out.file(format!("{namespace}/{name}").as_bytes()) {
                // The archive was removed after it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if is_no_file(&error) => {
                    found.strange.get_or_insert(path);
                    continue;
                }
                opened => opened.map_err(ArchiveError::on("read", &path))?,
            };
            let look = status_of(&file).map_err(ArchiveError::on("read", &path))?;
            if look.is_strange() {
                found.strange.get_or_insert(path);
                continue;
            }
            seen.insert((namespace.clone(), archive_name.to_owned()));
            let listed = members_of(&file, hour.codec()).map_err(ArchiveError::on("read", &path))?;
            let Some(members) = listed else {
                // A draft has nothing before its first commit.
                if archive_name == name {
                    found.damaged.get_or_insert(path);
                }
                continue;
            };
            let id = look.stamp.id();
            let archive = FoundArchive { out: out.clone(), namespace: of.clone(), name: hour, id };
            let members = wanted(options, members);
            let later = beginnings.excerpt(&firsts_of(&members));
            let begins = begins_of(&members, later.clone());
            let Some(begin) = begins.iter().min().copied() else { continue };
            for ((_, member), begin) in members.iter().zip(&begins).rev() {
                if let Some((first, _)) = member.span {
                    beginnings.insert(first, *begin);
                }
            }
            let key = PlaceKey { begin, rank: Rank::Member { archive: number, member: 0 } };
            found.places.insert(key, LineSource::Archive { archive: Rc::new(archive), later });
        }
    }
    Ok(seen)
}

/// Lists the members of an archive that has been reached, as places. None comes before the archive, even if
/// the archive has grown.
pub(super) fn expand(
    options: &ReadOptions,
    key: PlaceKey,
    archive: &Rc<FoundArchive>,
    file: &File,
    later: Beginnings,
) -> io::Result<Vec<(PlaceKey, LineSource)>> {
    let members = wanted(options, members_of(file, archive.name.codec())?.unwrap_or_default());
    let begins = begins_of(&members, later);
    let place = |((member, TimedMember { place, .. }), begin): ((u32, TimedMember), Timestamp)| {
        let rank = match key.rank {
            Rank::Member { archive, .. } => Rank::Member { archive, member },
            live => live,
        };
        let key = PlaceKey { begin: begin.max(key.begin), rank };
        (key, LineSource::Member { archive: archive.clone(), place })
    };
    Ok(members.into_iter().zip(begins).map(place).collect())
}

/// Selects the members that may have wanted lines, and numbers them.
fn wanted(options: &ReadOptions, members: Vec<TimedMember>) -> Vec<(u32, TimedMember)> {
    (0..).zip(members).filter(|(_, member)| options.wants_span(member.span)).collect()
}

/// Returns the earliest and the latest first time of members.
fn firsts_of(members: &[(u32, TimedMember)]) -> std::ops::RangeInclusive<Timestamp> {
    let firsts = || members.iter().filter_map(|(_, member)| Some(member.span?.0));
    firsts().min().unwrap_or(Timestamp::MAX)..=firsts().max().unwrap_or(Timestamp::MIN)
}

/// Returns the beginnings of an archive's members. `later` has those of the places after the archive.
fn begins_of(members: &[(u32, TimedMember)], mut later: Beginnings) -> Vec<Timestamp> {
    let mut begins: Vec<_> = members.iter().rev().map(|(_, member)| later.add(member.span)).collect();
    begins.reverse();
    begins
}

/// Lists an archive's members by their headers. The members after the end mark belong to a commit that may
/// not have happened yet. The numbers of their entries decide. Returns `None` if the archive begins neither
/// with a member nor with an end mark.
fn members_of(archive: &File, codec: Codec) -> io::Result<Option<Vec<TimedMember>>> {
    let start = veil::start(codec).len() as u64;
    let (mut at, mut members) = (start, Vec::new());
    let mut header = [0; PART_BYTES];
    let bytes = archive.metadata()?.len();
    loop {
        let read = read_full_at(archive, &mut header, at)?;
        match veil::part(codec, at, &header[..read]) {
            Some(ArchivePart::Member(member)) if member.place.end <= bytes => {
                at = member.place.end;
                members.push(member);
            }
            Some(ArchivePart::HiddenEnd | ArchivePart::End) => at += veil::end_bytes(codec),
            _ => return Ok((at > start).then_some(members)),
        }
    }
}

/// Parses the name of an entry. Returns the container's directory and the number of the entry.
pub(super) fn entry_of(name: &str) -> Option<(ContainerDir, u64)> {
    let (dir, file) = name.rsplit_once('/')?;
    let number = file.split('.').next()?.parse().ok()?;
    Some((dir.parse().ok()?, number))
}
