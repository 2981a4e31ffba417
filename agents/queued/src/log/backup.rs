//! `queued backup`: writes a data directory, as it was at one moment, to a tar archive.
//!
//! The archive holds its own head and then the segments in order, without the unused ends of their files. The
//! unpacked archive is a data directory. The moment is the last whole group of the newest segment. The
//! server may run and write during the backup; it keeps all segments until the backup is done.

use super::LogError;
use super::backup_reader::{BUFFER_BYTES, is_stream};
use super::head::{self, Head, Pin};
use super::reading::load;
use super::segment::{self, Header};
use super::walk::{Damage, GroupsEnd, Walk};
use kit::disk::draft::{Draft, directory_of};
use kit::exit::{Exit, Fatal};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::SystemTime;

/// Writes a backup of the directory to a file, or to stdout.
pub fn backup(dir: &Path, to: &Path) -> Result<(), Fatal> {
    if is_stream(to) {
        return Ok(write_to(dir, to, io::stdout().lock())?);
    }
    refuse_inside(dir, to)?;
    let draft = Draft::public(to).map_err(LogError::io("make", to))?;
    write_to(dir, to, draft.file())?;
    Ok(draft.finish().map_err(LogError::io("write", to))?)
}

/// Refuses a target inside the data directory: a backup only reads it.
fn refuse_inside(dir: &Path, to: &Path) -> Result<(), Fatal> {
    let inside = match (dir.canonicalize(), directory_of(to).canonicalize()) {
        (Ok(dir), Ok(parent)) => parent.starts_with(dir),
        _ => false,
    };
    if !inside {
        return Ok(());
    }
    let (to, dir) = (to.display(), dir.display());
    Err(Fatal::new(Exit::Usage, format!("{to} is inside of {dir}; write the backup elsewhere")))
}

fn write_to(dir: &Path, to: &Path, out: impl Write) -> Result<(), LogError> {
    let _pin = Pin::take(dir)?;
    let (head, numbers) = (Head::of(dir)?, segment::list(dir)?);
    let ends = head.map(|head| (head.oldest, head.newest)).filter(|(_, newest)| *newest > 0);
    let ends = ends.or_else(|| Some((*numbers.first()?, *numbers.last()?)));
    let (oldest, newest) = ends.ok_or_else(|| LogError::NoLog(dir.to_owned()))?;
    let (header, cut) = cut(dir, newest)?;
    let needed = Head { epoch: header.epoch, oldest, newest, group: cut.next_group.saturating_sub(1) };
    if let Some(lost) = head.filter(|head| head.group > needed.group) {
        let why = format!("lacks groups {} to {} at its end", cut.next_group, lost.group);
        return Err(LogError::Incomplete { path: segment::path(dir, newest), why, dir: dir.to_owned() });
    }
    let mut archive = tar::Builder::new(BufWriter::with_capacity(BUFFER_BYTES, out));
    add(&mut archive, head::NAME, &needed.file(), &head::path(dir))?;
    let mut on_damage = |damage: Damage| Err(damage.error(dir));
    let mut walk = Walk::new(dir, Some(needed), &mut on_damage);
    let mut bytes = Vec::new();
    for number in numbers.into_iter().filter(|number| (oldest..=newest).contains(number)) {
        let path = segment::path(dir, number);
        load(&path, &mut bytes)?;
        if number == newest {
            bytes.truncate(cut.offset);
        }
        let Some(header) = walk.header(number, &bytes)? else { continue };
        let end = walk.groups(&bytes, &header, number == newest, |_, _| Ok(()))?;
        add(&mut archive, &segment::name(number), bytes.get(..end.offset).unwrap_or_default(), &path)?;
    }
    walk.finish()?;
    archive.into_inner().and_then(|mut out| out.flush()).map_err(LogError::io("write to", to))
}

/// Finds the last whole group of the newest segment. The server may write to it at the same time: a hole that
/// is filled a moment later is not damage.
fn cut(dir: &Path, newest: u32) -> Result<(Header, GroupsEnd), LogError> {
    let path = segment::path(dir, newest);
    let (mut bytes, mut hole_before) = (Vec::new(), String::new());
    loop {
        load(&path, &mut bytes)?;
        let header = Header::decode(&bytes, &path)?;
        let mut on_damage = |hole: Damage| Err(hole.error(dir));
        match Walk::new(dir, None, &mut on_damage).groups(&bytes, &header, true, |_, _| Ok(())) {
            Ok(end) => return Ok((header, end)),
            Err(hole) if hole_before == hole.to_string() => return Err(hole),
            Err(hole) => hole_before = hole.to_string(),
        }
    }
}

fn add(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    bytes: &[u8],
    original: &Path,
) -> Result<(), LogError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    let changed = std::fs::metadata(original).and_then(|meta| meta.modified()).ok();
    let changed = changed.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    header.set_mtime(changed.map_or(0, |since| since.as_secs()));
    archive.append_data(&mut header, name, bytes).map_err(LogError::io("add to the backup", original))
}
