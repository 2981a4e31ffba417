//! `queued check`: reports all damage of a data directory or a backup, and changes nothing.

use super::LogError;
use super::backup_reader::{self, BackupReader};
use super::directory::hold_for_reading;
use super::head::Head;
use super::reading::{self, Damage, LogContents, SegmentFiles, SegmentSource};
use crate::engine::item::ItemState;
use kit::exit::{Exit, Fatal};
use std::io::Write;
use std::path::Path;

pub(super) fn say(line: &str) {
    // A closed pipe is not a failure.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn tell(damage: &Damage) {
    let (path, why) = (damage.path.display(), &damage.why);
    say(&match damage.offset {
        Some(offset) => format!("damage: {path} at byte {offset}: {why}"),
        None => format!("damage: {path} {why}"),
    });
}

fn summary(found: &LogContents) {
    for queue in found.core.queues() {
        let (items, dead) = (queue.backlog(), queue.tally(ItemState::Dead));
        say(&format!("queue {}: {items} items, {dead} dead", queue.name));
    }
    if let Some(torn) = &found.torn {
        let (path, at) = (torn.path.display(), torn.offset);
        say(&format!(
            "unfinished end: {path} at byte {at}; it was never acknowledged, and the next start removes it"
        ));
    }
}

/// Reports the contents and all damage; returns the log and the number of damaged places.
pub(super) fn examine(
    source: &mut impl SegmentSource,
    memory_bytes_max: u64,
) -> Result<(LogContents, u64), LogError> {
    let mut count = 0;
    let found = reading::read_with(source, memory_bytes_max, 1, |damage| {
        count += 1;
        tell(&damage);
        Ok(())
    })?;
    summary(&found);
    Ok((found, count))
}

/// Opens the log in a directory; a head that cannot be read counts as missing.
pub(super) fn files(dir: &Path) -> Result<SegmentFiles, LogError> {
    let head = match Head::of(dir) {
        Ok(head) => head,
        Err(LogError::Damaged { .. }) => None,
        Err(error) => return Err(error),
    };
    SegmentFiles::of(dir, head)?.ok_or_else(|| LogError::NoLog(dir.to_owned()))
}

pub(super) fn no_directory(path: &Path) -> Fatal {
    Fatal::new(Exit::Failure, format!("{} is not a directory", path.display()))
}

/// Checks a log: exits with 0 if it is sound, with 1 if it is not.
pub fn check(path: &Path) -> Result<(), Fatal> {
    if path.is_dir() { check_directory(path) } else { check_backup(path) }
}

fn check_directory(dir: &Path) -> Result<(), Fatal> {
    // Comes first: a server that writes meanwhile would change which files there are.
    let _nobody_writes = hold_for_reading(dir)?;
    let mut files = files(dir)?;
    let (_, count) = examine(&mut files, 0)?;
    let dir = dir.display();
    judge(
        count,
        &format!(
            "in {dir}; `queued repair {dir}` keeps what can be read, `queued restore` brings back a backup"
        ),
    )
}

fn check_backup(path: &Path) -> Result<(), Fatal> {
    let mut archive = tar::Archive::new(backup_reader::open(path)?);
    let mut backup = BackupReader::open(&mut archive, path)?;
    let (_, count) = examine(&mut backup, 0)?;
    judge(count, &format!("in {}; use another backup", path.display()))
}

fn judge(count: u64, way_out: &str) -> Result<(), Fatal> {
    if count == 0 {
        say("sound");
        return Ok(());
    }
    let places = if count == 1 { "1 damaged place".to_owned() } else { format!("{count} damaged places") };
    Err(Fatal::new(Exit::Failure, format!("{places} {way_out}")))
}
