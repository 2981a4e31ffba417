//! `queued check`: reports all damage of a data directory or a backup, and changes nothing.

use super::directory::hold_for_reading;
use super::head::Head;
use super::reading::{self, LogContents, LogSource};
use super::walk::Damage;
use super::{LogError, backup_reader, segment};
use crate::engine::item::ItemState;
use kit::exit::{Exit, Fatal};
use std::io::Write;
use std::path::Path;

pub(super) fn say(line: &str) {
    // A closed pipe is not a failure.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Reports the contents and all damage; returns the log and the number of damaged places.
pub(super) fn examine(
    source: &mut LogSource<'_>,
    memory_bytes_max: u64,
) -> Result<(LogContents, u64), LogError> {
    let mut count = 0;
    let found = reading::read_with(source, memory_bytes_max, 1, &mut |damage: Damage| {
        count += 1;
        let (path, why) = (damage.path.display(), &damage.why);
        say(&match damage.offset {
            Some(offset) => format!("damage: {path} at byte {offset}: {why}"),
            None => format!("damage: {path} {why}"),
        });
        Ok(())
    })?;
    for queue in found.core.queues() {
        let (items, dead) = (queue.backlog(), queue.tally(ItemState::Dead));
        say(&format!("queue {}: {items} items, {dead} dead", queue.name));
    }
    if found.torn {
        let path = segment::path(&source.place, found.last.number);
        say(&format!(
            "unfinished end: {} at byte {}; it was never acknowledged, and the next start removes it",
            path.display(),
            found.end.offset
        ));
    }
    Ok((found, count))
}

/// Opens the log in a directory; a head that cannot be read counts as missing.
pub(super) fn files(dir: &Path) -> Result<LogSource<'_>, LogError> {
    let head = match Head::of(dir) {
        Err(LogError::Damaged { .. }) => None,
        head => head?,
    };
    reading::open(dir, head)?.ok_or_else(|| LogError::NoLog(dir.to_owned()))
}

pub(super) fn no_directory(path: &Path) -> Fatal {
    Fatal::new(Exit::Failure, format!("{} is not a directory", path.display()))
}

/// Checks a log: exits with 0 if it is sound, with 1 if it is not.
pub fn check(path: &Path) -> Result<(), Fatal> {
    let shown = path.display();
    let (count, way_out) = if path.is_dir() {
        // Comes first: a server that writes meanwhile would change which files there are.
        let _nobody_writes = hold_for_reading(path)?;
        let repair = format!("`queued repair {shown}` keeps what can be read");
        (examine(&mut files(path)?, 0)?.1, format!("{repair}, `queued restore` brings back a backup"))
    } else {
        let mut archive = tar::Archive::new(backup_reader::open(path)?);
        let (_, mut segments) = backup_reader::segments(&mut archive, path)?;
        (examine(&mut segments, 0)?.1, "use another backup".to_owned())
    };
    if count == 0 {
        say("sound");
        return Ok(());
    }
    let places = if count == 1 { "1 damaged place".to_owned() } else { format!("{count} damaged places") };
    Err(Fatal::new(Exit::Failure, format!("{places} in {shown}; {way_out}")))
}
