//! `queued backup`: writes a data directory, as it was at one moment, to a tar archive.
//!
//! The archive holds a head of its own and then the segments, in their order and without the unused ends of
//! the files; unpacked it is a data directory. The moment is the last whole group of the newest segment. The
//! server may run and write during the backup; it keeps all segments until the backup is done.

use super::LogError;
use super::backup_reader::{BUFFER_BYTES, is_stream};
use super::head::{self, Head, Pin};
use super::reading::{Damage, SegmentFiles, Walk, load};
use super::segment::{self, Header};
use kit::exit::{Exit, Fatal};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Writes a backup of the directory to a file, or to stdout.
pub fn backup(dir: &Path, to: &Path) -> Result<(), Fatal> {
    if is_stream(to) {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        write_to(dir, &mut out)?;
        return Ok(out.flush().map_err(LogError::io("write to", to))?);
    }
    refuse_inside(dir, to)?;
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = File::create(&new).map_err(LogError::io("make", &new))?;
    let made = (|| {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, &file);
        write_to(dir, &mut out)?;
        out.flush().and_then(|()| file.sync_all()).map_err(LogError::io("write to", &new))?;
        std::fs::rename(&new, to).map_err(LogError::io("rename", &new))?;
        let parent = directory_of(to);
        segment::sync_name(parent, &file).map_err(LogError::io("sync", parent))
    })();
    if made.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    Ok(made?)
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a target inside the data directory: a backup only reads it.
fn refuse_inside(dir: &Path, to: &Path) -> Result<(), Fatal> {
    let parent = directory_of(to);
    let inside = match (dir.canonicalize(), parent.canonicalize()) {
        (Ok(dir), Ok(parent)) => parent.starts_with(dir),
        _ => false,
    };
    if !inside {
        return Ok(());
    }
    let (to, dir) = (to.display(), dir.display());
    Err(Fatal::new(Exit::Usage, format!("{to} is inside of {dir}; write the backup elsewhere")))
}

/// The last whole group of the newest segment.
struct Cut {
    header: Header,
    end: usize,
    next_group: u64,
}

fn write_to(dir: &Path, out: &mut impl Write) -> Result<(), LogError> {
    let failed = |path: &Path| LogError::io("add to the backup", path);
    let _pin = Pin::take(dir)?;
    let head = Head::of(dir)?;
    let files = SegmentFiles::of(dir, head)?.ok_or_else(|| LogError::NoLog(dir.to_owned()))?;
    let ends = head.map(|head| (head.oldest, head.newest)).filter(|(_, newest)| *newest > 0);
    let ends = ends.or_else(|| Some((*files.numbers().first()?, *files.numbers().last()?)));
    let (oldest, newest) = ends.ok_or_else(|| LogError::NoLog(dir.to_owned()))?;
    let cut = cut(dir, newest)?;
    let needed = Head { epoch: cut.header.epoch, oldest, newest, group: cut.next_group.saturating_sub(1) };
    if let Some(lost) = head.filter(|head| head.group > needed.group) {
        let why = format!("lacks groups {} to {} at its end", cut.next_group, lost.group);
        return Err(LogError::Incomplete { path: segment::path(dir, newest), why, dir: dir.to_owned() });
    }
    let mut archive = tar::Builder::new(out);
    add(&mut archive, head::NAME, &needed.file(), &head::path(dir))?;
    let mut walk = Walk::new(dir, Some(needed));
    let mut on_damage = |damage: Damage| Err(damage.error(dir));
    let mut bytes = Vec::new();
    for number in oldest..=newest {
        let path = segment::path(dir, number);
        load(&path, &mut bytes).map_err(|error| match &error {
            LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                LogError::Incomplete { path: path.clone(), why: "is missing".to_owned(), dir: dir.to_owned() }
            }
            _ => error,
        })?;
        if number == newest {
            bytes.truncate(cut.end);
        }
        let Some(header) = walk.header(number, &bytes, &mut on_damage)? else { continue };
        let end = walk.groups(&bytes, &header, number == newest, &mut on_damage, |_, _| Ok(()))?;
        add(&mut archive, &segment::name(number), bytes.get(..end.offset).unwrap_or_default(), &path)?;
    }
    walk.finish().map_or(Ok(()), on_damage)?;
    archive.finish().map_err(failed(dir))
}

/// Finds the present end of the newest segment. The server may write to it at the same time: a hole that is
/// filled a moment later is not damage.
fn cut(dir: &Path, newest: u32) -> Result<Cut, LogError> {
    let path = segment::path(dir, newest);
    let mut bytes = Vec::new();
    let mut hole_before = None;
    loop {
        load(&path, &mut bytes)?;
        let header = Header::decode(&bytes, &path)?;
        let mut walk = Walk::new(dir, None);
        let mut hole = None;
        let end = walk.groups(
            &bytes,
            &header,
            true,
            &mut |damage: Damage| {
                hole.get_or_insert(damage.clone());
                Err(damage.error(dir))
            },
            |_, _| Ok(()),
        );
        match end {
            Ok(end) => {
                let next_group = walk.next_group.unwrap_or(header.first_group);
                return Ok(Cut { header, end: end.offset, next_group });
            }
            Err(error) if hole_before == hole => return Err(error),
            Err(_) => hole_before = hole,
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
