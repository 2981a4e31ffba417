//! Finds the members of the archives that may have wanted lines.

use super::Found;
use super::line_source::{FoundArchive, LineSource};
use super::options::ReadOptions;
use super::reading_order::LinePlace;
use crate::archive::codec::Codec;
use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::hour::ArchiveName;
use crate::pods::hour_archive::{is_no_file, undrafted};
use crate::pods::place::{ContainerDir, is_label};
use crate::pods::store::names;
use crate::pods::veil::{self, ArchivePart, PART_BYTES, TimedMember};
use crate::safe_dir::{SafeDir, status_of};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::rc::Rc;

/// Finds the members of the archives. Returns the archives that were seen, by namespace and name. An archive
/// that gets its name meanwhile may be missing.
pub(super) fn find_members(
    options: &ReadOptions,
    with_drafts: bool,
    found: &mut Found,
) -> Result<BTreeSet<(String, String)>, ArchiveError> {
    let mut seen = BTreeSet::new();
    let opened = options.pods_out.canonicalize().and_then(|path| SafeDir::open(&path));
    let out = Rc::new(opened.map_err(ArchiveError::on("read", &options.pods_out))?);
    for namespace in names(&out, b"")?.into_iter().filter(|name| is_label(name)) {
        if !options.wants_namespace(&namespace) {
            continue;
        }
        let path = out.path().join(&namespace);
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let of: Rc<str> = namespace.as_str().into();
        // In this order, the parts of an hour follow each other.
        let mut listed = names(&out, namespace.as_bytes())?;
        listed.sort_by_key(|name| undrafted(name).parse::<ArchiveName>().ok());
        for name in listed {
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
            let members = members_of(&file, hour.codec()).map_err(ArchiveError::on("read", &path))?;
            let (out, id) = (out.clone(), look.stamp.id());
            let archive = Rc::new(FoundArchive { path, out, namespace: of.clone(), name: hour, id });
            for TimedMember { place, span } in members {
                if options.wants_span(span) {
                    let source = LineSource::Member { archive: archive.clone(), place };
                    found.places.push(LinePlace::new(of.clone(), span, source));
                }
            }
        }
    }
    Ok(seen)
}

/// Lists an archive's members by their headers. The members after the end mark belong to a commit that may
/// not have happened yet. The numbers of their entries decide.
fn members_of(archive: &File, codec: Codec) -> io::Result<Vec<TimedMember>> {
    let (mut at, mut members) = (veil::start(codec).len() as u64, Vec::new());
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
            _ => return Ok(members),
        }
    }
}

/// Parses the name of an entry. Returns the container's directory and the number of the entry.
pub(super) fn entry_of(name: &str) -> Option<(ContainerDir, u64)> {
    let (dir, file) = name.rsplit_once('/')?;
    let number = file.split('.').next()?.parse().ok()?;
    Some((dir.parse().ok()?, number))
}
