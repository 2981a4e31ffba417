//! `logcd read`: prints lines of container logs in order of time, from the archives and the live logs.

mod archives;
mod follow;
mod line_printer;
mod line_source;
mod live_logs;
mod merge;
pub mod options;
mod reading_order;

use crate::error::ArchiveError;
use crate::pods::cursor::{Checkpoint, OpenArchive};
use crate::pods::store::{self, CHECKPOINT};
use archives::find_archives;
use kit::exit::{Exit, Fatal};
use line_printer::LinePrinter;
use line_source::LineSource;
use live_logs::{KnownLog, LiveLog, LiveSearch, UnreadLogs};
use merge::{Merge, written};
use options::{ReadFormat, ReadOptions};
use reading_order::{Beginnings, PlaceKey, Rank};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// Limit on the attempts to find the lines. An attempt fails if the daemon commits meanwhile.
const TRIES_MAX: u32 = 10;

/// Everything that may have wanted lines.
#[derive(Default)]
struct WantedPlaces {
    /// The places in reading order. Their number follows that of the archives and live logs.
    places: BTreeMap<PlaceKey, LineSource>,
    /// The beginnings of the live logs of each namespace.
    live_beginnings: HashMap<String, Beginnings>,
    /// The number of the first uncommitted entry.
    next_entry: u64,
    /// The first name of an archive that is not a regular file.
    strange: Option<PathBuf>,
    /// The first name of an archive whose members cannot be found.
    damaged: Option<PathBuf>,
    unread: UnreadLogs,
    /// The live logs that are there, if new lines are wanted.
    known: Vec<KnownLog>,
}

impl WantedPlaces {
    /// Adds live logs. Lines that are not archived yet come after the archives.
    fn add_live(&mut self, logs: Vec<LiveLog>) {
        for (number, LiveLog { namespace, span, source }) in logs.into_iter().enumerate().rev() {
            let begin = self.live_beginnings.entry(namespace).or_default().add(span);
            self.places.insert(PlaceKey { begin, rank: Rank::Live(number) }, source);
        }
    }
}

/// Prints the wanted lines to stdout.
pub fn read(options: &ReadOptions) -> Result<(), Fatal> {
    let failed = |trouble: ArchiveError| match trouble {
        ArchiveError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
            Fatal::new(Exit::Ok, "")
        }
        trouble => crate::once::fatal(trouble),
    };
    if options.follow && options.output == ReadFormat::Records {
        kit::line_records::end_with_stdin();
    }
    kit::daemon::allow_many_descriptors();
    let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let mut printer = LinePrinter::new(options, out);
    printer.stay_alive().map_err(written).map_err(failed)?;
    let found = find(options).map_err(failed)?;
    let merge = Merge::new(options, printer, found.next_entry);
    let (mut printer, _, _) = merge.print(found.places).map_err(failed)?;
    if options.follow {
        return follow::follow(options, found.known, &mut printer).map_err(failed);
    }
    printer.finish().map_err(written).map_err(failed)?;
    if let Some(path) = found.strange {
        let message = format!(
            "{} is no archive of logcd's: it is a link or has several names; its lines are not printed",
            path.display()
        );
        return Err(Fatal::new(Exit::Failure, message));
    }
    if let Some(path) = found.damaged {
        let message =
            format!("{} is damaged: it begins with no entry; its lines are not printed", path.display());
        return Err(Fatal::new(Exit::Failure, message));
    }
    found.unread.result()
}

/// Finds all places in reading order, and the number of the next entry. Archives and live logs are those of
/// one commit, so that no line is missing or printed twice.
fn find(options: &ReadOptions) -> Result<WantedPlaces, ArchiveError> {
    let mut tries_left = TRIES_MAX;
    loop {
        let loaded = load_checkpoint(&options.pods_out)?;
        let next_entry = end_of_entries(loaded.as_ref());
        // Without a checkpoint, no entry in a draft is committed.
        let with_drafts = loaded.is_some();
        let checkpoint = loaded.unwrap_or_default();
        let mut live = LiveSearch::new(options, &checkpoint);
        live.run()?;
        let mut found =
            WantedPlaces { next_entry, unread: live.unread, known: live.known, ..WantedPlaces::default() };
        found.add_live(live.logs);
        let seen = find_archives(options, with_drafts, &mut found)?;
        let is_same = end_of_entries(load_checkpoint(&options.pods_out)?.as_ref()) == next_entry;
        let is_wanted = |open: &&OpenArchive| options.wants_namespace(&open.namespace);
        let is_seen = |open: &OpenArchive| seen.contains(&(open.namespace.clone(), open.name.clone()));
        let are_all_seen = checkpoint.open.iter().filter(is_wanted).all(is_seen);
        if is_same && are_all_seen || tries_left == 0 {
            return Ok(found);
        }
        tries_left -= 1;
    }
}

/// Loads the checkpoint. Ignores a damaged one, because only the daemon may rename it.
fn load_checkpoint(out: &Path) -> Result<Option<Checkpoint>, ArchiveError> {
    match store::load(out) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        loaded => loaded.map_err(ArchiveError::on("read", &out.join(CHECKPOINT))),
    }
}

/// Returns the upper bound of the numbers of committed entries. Without a checkpoint, as in a copy of the
/// archives, every entry is committed.
fn end_of_entries(checkpoint: Option<&Checkpoint>) -> u64 {
    checkpoint.map_or(u64::MAX, |checkpoint| checkpoint.next_entry)
}
