//! `logcd read`: prints lines of container logs in order of time, from the archives and the live logs.

mod merge;

use crate::archive::codec::Codec;
use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::cursor::{Checkpoint, Cursor, OpenArchive};
use crate::pods::followed_log::FollowedLog;
use crate::pods::hour::ArchiveName;
use crate::pods::hour_archive::{draft_name, is_no_file, undrafted};
use crate::pods::place::{ContainerDir, LogName, PodDir, is_label};
use crate::pods::store::{self, CHECKPOINT, names};
use crate::pods::veil::{self, ArchivePart, PART_BYTES, Span};
use crate::safe_dir::{FileStatus, Kind, SafeDir, status_of};
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use kit::settings::time::parse_time;
use merge::{BACK_MAX, Merge};
use nix::sys::resource::{Resource, getrlimit};
use regex::bytes::Regex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Limit on the attempts to find the lines. An attempt fails if the daemon commits meanwhile.
const TRIES_MAX: u32 = 10;
/// Limit on the holes of a live log, equal to the daemon's default. Larger ones would be read as zeros for
/// hours.
const HOLE_BYTES_MAX: u64 = 16 << 30;

/// Descriptors that live logs leave for everything else.
const OTHER_DESCRIPTORS: u64 = 16;

/// Which lines to print, and how
#[derive(Clone, Debug, clap::Args)]
pub struct ReadOptions {
    /// The directory for archives of container logs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/logcd")]
    pub pods_out: PathBuf,

    /// Directory of the container logs, for lines that are not archived yet; or none
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods")]
    pub pods: PathBuf,

    /// Only this namespace
    #[arg(long, short, value_name = "NAMESPACE", hide_env = true)]
    pub namespace: Option<String>,

    /// Only pods in whose name this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub pod: Option<Regex>,

    /// Only containers with this name
    #[arg(long, short, value_name = "NAME")]
    pub container: Option<String>,

    /// Only lines since a time (2026-11-21T08:00:00Z), a local time (2026-11-21 08:00), a date, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,

    /// Only lines until then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,

    /// Only lines in which this regular expression matches
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<Regex>,

    /// How lines are printed
    #[arg(long, short, value_name = "FORMAT", default_value = "plain")]
    pub output: ReadFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadFormat {
    /// The line alone, its parts joined
    Plain,
    /// An object for each line, with its time, namespace, pod, container and stream
    Json,
    /// As the container runtime wrote it, parts not joined
    Raw,
}

impl ReadOptions {
    fn wants_namespace(&self, name: &str) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| namespace == name)
    }

    fn wants_pod(&self, pod: &PodDir) -> bool {
        self.wants_namespace(&pod.namespace)
            && self.pod.as_ref().is_none_or(|pattern| pattern.is_match(pod.pod.as_bytes()))
    }

    fn wants(&self, dir: &ContainerDir) -> bool {
        self.wants_pod(&dir.pod) && self.container.as_ref().is_none_or(|name| *name == dir.container)
    }

    fn wants_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    /// True if a place with this span may have wanted lines. Always true for a place without times.
    fn wants_span(&self, span: Span) -> bool {
        span.is_none_or(|(first, last)| {
            self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first <= until)
        })
    }
}

/// A place with lines: a member of an archive, or a live log.
enum LineSource {
    Member { archive: Rc<FoundArchive>, place: std::ops::Range<u64> },
    Live { dir: Rc<ContainerDir>, file: File, offset: u64, is_compressed: bool },
}

/// An archive. It is opened again when its lines are read, because a process cannot hold all archives open.
struct FoundArchive {
    path: PathBuf,
    out: Rc<SafeDir>,
    namespace: Rc<str>,
    /// The name of the archive. Until its first commit is visible, it may have a draft's name instead.
    name: ArchiveName,
    device_and_inode: (u64, u64),
}

impl FoundArchive {
    /// Opens the archive. Returns `None` if it was removed or replaced after it was found.
    fn open(&self) -> io::Result<Option<File>> {
        let names = [self.name.to_string(), draft_name(self.name), self.name.to_string()];
        for name in names {
            let file = match self.out.file(format!("{}/{name}", self.namespace).as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_file(&error) => continue,
                opened => opened?,
            };
            if identity(&status_of(&file)?) == self.device_and_inode {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

fn identity(look: &FileStatus) -> (u64, u64) {
    (look.stamp.dev, look.stamp.ino)
}

struct LinePlace {
    namespace: Rc<str>,
    span: Span,
    /// The position of the place in the order of the namespace's logs.
    rank: usize,
    /// A lower limit on the order of the lines in this place and in those after it.
    begin: Timestamp,
    source: LineSource,
}

impl LinePlace {
    /// Creates a place. Its rank and beginning are set once all places are known.
    fn new(namespace: Rc<str>, span: Span, source: LineSource) -> LinePlace {
        LinePlace { namespace, span, rank: 0, begin: Timestamp::MIN, source }
    }
}

impl LineSource {
    /// Returns the offset of the first line in a live log.
    fn start(&self) -> u64 {
        match self {
            LineSource::Member { .. } => 0,
            LineSource::Live { offset, .. } => *offset,
        }
    }
}

/// Everything that may have wanted lines.
#[derive(Default)]
struct Found {
    places: Vec<LinePlace>,
    /// The number of the first uncommitted entry.
    next_entry: u64,
    /// Names of archives that are not regular files.
    strange: Vec<PathBuf>,
    unread: UnreadLogs,
}

/// The live logs whose lines are missing in the output.
#[derive(Default)]
struct UnreadLogs {
    count: u64,
    /// The first of them, and the reason.
    first: Option<(String, io::Error)>,
}

impl UnreadLogs {
    /// Notes a log that could not be opened, unless it was removed or is no file.
    fn note(&mut self, path: String, error: io::Error) {
        if error.kind() != io::ErrorKind::NotFound && !is_no_file(&error) {
            self.count += 1;
            self.first.get_or_insert((path, error));
        }
    }

    /// Notes a directory that could not be listed.
    fn note_listing(&mut self, path: String, error: ArchiveError) {
        match error {
            ArchiveError::Io { source, .. } => self.note(path, source),
            error => self.note(path, io::Error::other(error)),
        }
    }

    fn result(self) -> Result<(), Fatal> {
        let Some((path, error)) = self.first else { return Ok(()) };
        let others = match self.count {
            1 => String::new(),
            count => format!(", and {} more live logs or directories", count - 1),
        };
        let message = format!("cannot open {path}{others}; their lines are not printed");
        Err(Fatal::new(Exit::Failure, message).because(error))
    }
}

/// Sorts places into reading order, and sets their beginnings. The places of a namespace are in the order of
/// its logs. They stay in that order if their times go back a little. If their times go back further, the
/// later place has lines of other containers, and is read earlier. Places without times come first.
fn in_reading_order(mut places: Vec<LinePlace>) -> Vec<LinePlace> {
    let mut later_places: HashMap<Rc<str>, Beginnings> = HashMap::new();
    for (rank, place) in places.iter_mut().enumerate().rev() {
        place.rank = rank;
        if let Some((first, _)) = place.span {
            let later = later_places.entry(place.namespace.clone()).or_default();
            let from = first.checked_sub(BACK_MAX).unwrap_or(Timestamp::MIN);
            place.begin = later.earliest(from).map_or(first, |begin| begin.min(first));
            later.add(first, place.begin);
        }
    }
    places.sort_by_key(|place| place.begin);
    places
}

/// The beginnings of places by their first times. Both grow: a place is dropped if another one has no earlier
/// first time and no later beginning.
#[derive(Default)]
struct Beginnings(BTreeMap<Timestamp, Timestamp>);

impl Beginnings {
    fn add(&mut self, first: Timestamp, begin: Timestamp) {
        if self.earliest(first).is_some_and(|earliest| earliest <= begin) {
            return;
        }
        while let Some((hidden, _)) = self.0.range(..=first).next_back().filter(|(_, other)| **other >= begin)
        {
            let hidden = *hidden;
            self.0.remove(&hidden);
        }
        self.0.insert(first, begin);
    }

    /// Returns the earliest beginning of the places whose first time is at or after `from`.
    fn earliest(&self, from: Timestamp) -> Option<Timestamp> {
        self.0.range(from..).next().map(|(_, begin)| *begin)
    }
}

pub fn read(options: &ReadOptions) -> Result<(), Fatal> {
    let failed = |trouble: ArchiveError| match trouble {
        ArchiveError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
            Fatal::new(Exit::Ok, "")
        }
        trouble => crate::once::fatal(trouble),
    };
    kit::daemon::allow_many_descriptors();
    let found = find(options).map_err(failed)?;
    let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    Merge::new(options, out, found.next_entry).print(&found.places).map_err(failed)?;
    match found.strange.first() {
        Some(path) => Err(Fatal::new(
            Exit::Failure,
            format!(
                "{} is no archive of logcd's: it is a link or has several names; its lines are not printed",
                path.display()
            ),
        )),
        None => found.unread.result(),
    }
}

/// Finds all places in reading order, and the number of the next entry. Archives and live logs are those of
/// one commit, so that no line is missing or printed twice.
fn find(options: &ReadOptions) -> Result<Found, ArchiveError> {
    let mut tries_left = TRIES_MAX;
    loop {
        let loaded = load_checkpoint(&options.pods_out)?;
        let next_entry = end_of_entries(loaded.as_ref());
        // Without a checkpoint, no entry in a draft is committed.
        let with_drafts = loaded.is_some();
        let checkpoint = loaded.unwrap_or_default();
        let (mut found, mut live) = (Found { next_entry, ..Found::default() }, Vec::new());
        find_live(options, &checkpoint, &mut live, &mut found.unread)?;
        let seen = find_members(options, with_drafts, &mut found)?;
        let is_same = end_of_entries(load_checkpoint(&options.pods_out)?.as_ref()) == next_entry;
        let is_wanted = |open: &&OpenArchive| options.wants_namespace(&open.namespace);
        let is_seen = |open: &OpenArchive| seen.contains(&(open.namespace.clone(), open.name.clone()));
        let are_all_seen = checkpoint.open.iter().filter(is_wanted).all(is_seen);
        if is_same && are_all_seen || tries_left == 0 {
            // Lines that are not archived yet come after the archives.
            found.places.append(&mut live);
            found.places = in_reading_order(found.places);
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

/// Finds the members of the archives. Returns the archives that were seen, by namespace and name. An archive
/// that gets its name meanwhile may be missing.
fn find_members(
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
                    found.strange.push(path);
                    continue;
                }
                opened => opened.map_err(ArchiveError::on("read", &path))?,
            };
            let look = status_of(&file).map_err(ArchiveError::on("read", &path))?;
            // An archive that is being removed has no name.
            if look.kind != Kind::Regular || look.links > 1 {
                found.strange.push(path);
                continue;
            }
            seen.insert((namespace.clone(), archive_name.to_owned()));
            let members = members_of(&file, hour.codec()).map_err(ArchiveError::on("read", &path))?;
            let (out, device_and_inode) = (out.clone(), identity(&look));
            let archive = FoundArchive { path, out, namespace: of.clone(), name: hour, device_and_inode };
            let archive = Rc::new(archive);
            for (place, span) in members {
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
fn members_of(archive: &File, codec: Codec) -> io::Result<Vec<(std::ops::Range<u64>, Span)>> {
    let (mut at, mut members) = (veil::start(codec).len() as u64, Vec::new());
    let mut header = [0; PART_BYTES];
    let bytes = archive.metadata()?.len();
    loop {
        let read = read_full_at(archive, &mut header, at)?;
        match veil::part(codec, at, &header[..read]) {
            Some(ArchivePart::Member(member)) if member.place.end <= bytes => {
                at = member.place.end;
                members.push((member.place, member.span));
            }
            Some(ArchivePart::HiddenEnd | ArchivePart::End) => at += veil::end_bytes(codec),
            _ => return Ok(members),
        }
    }
}

fn find_live(
    options: &ReadOptions,
    checkpoint: &Checkpoint,
    found: &mut Vec<LinePlace>,
    unread: &mut UnreadLogs,
) -> Result<(), ArchiveError> {
    if options.pods == Path::new("none") {
        return Ok(());
    }
    let pods = match options.pods.canonicalize().and_then(|path| SafeDir::open(&path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(ArchiveError::on("read", &options.pods))?,
    };
    for pod in names(&pods, b"")? {
        let Ok(pod) = pod.parse::<PodDir>() else { continue };
        if !options.wants_pod(&pod) {
            continue;
        }
        // Pods and containers may be removed meanwhile.
        let listed = names(&pods, pod.to_string().as_bytes());
        let containers = listed.unwrap_or_else(|error| {
            unread.note_listing(pod.to_string(), error);
            Vec::new()
        });
        for container in containers {
            let Ok(dir) = pod.container(&container) else { continue };
            if options.wants(&dir) {
                find_logs(options, &pods, dir, checkpoint, found, unread);
            }
        }
    }
    Ok(())
}

fn find_logs(
    options: &ReadOptions,
    pods: &SafeDir,
    dir: ContainerDir,
    checkpoint: &Checkpoint,
    found: &mut Vec<LinePlace>,
    unread: &mut UnreadLogs,
) {
    let path = dir.to_string();
    let cursors = checkpoint.containers.get(&path);
    let dir = Rc::new(dir);
    let listed = names(pods, path.as_bytes()).unwrap_or_else(|error| {
        unread.note_listing(path.clone(), error);
        Vec::new()
    });
    let mut logs: Vec<LogName> = listed.iter().filter_map(|name| name.parse().ok()).collect();
    logs.sort();
    for log in &logs {
        let log_path = format!("{path}/{log}");
        let file = match pods.file(log_path.as_bytes()) {
            Ok(file) => file,
            Err(error) => {
                unread.note(log_path, error);
                continue;
            }
        };
        let Ok(look) = status_of(&file) else { continue };
        let is_sparse = look.stamp.size > look.allocated.saturating_add(HOLE_BYTES_MAX);
        let is_compressed = log.is_compressed();
        // The checkpoint may know the original of a compressed log.
        let start =
            if is_compressed { FollowedLog::start_of(&file, true).unwrap_or_default() } else { Vec::new() };
        let known = |cursor: &&Cursor| {
            cursor.inode == look.stamp.ino || is_compressed && cursor.head_bytes > 0 && cursor.fits(&start)
        };
        let is_settled = cursors
            .is_some_and(|cursors| cursors.settled.iter().any(|settled| settled.is(look.stamp.ino, log)));
        // A compressed log is skipped while kubelet has not removed the original yet.
        let is_copy = is_compressed && logs.contains(&log.uncompressed());
        let is_strange = look.kind != Kind::Regular || look.links > 1;
        if is_strange || is_sparse || is_settled || is_copy {
            continue;
        }
        let offset =
            cursors.and_then(|cursors| cursors.logs.iter().find(known)).map_or(0, |cursor| cursor.offset);
        let span = first_time(&file, offset, is_compressed).map(|first| (first, Timestamp::MAX));
        if options.wants_span(span) {
            if found.len() >= live_logs_max() {
                unread.note(log_path, io::Error::other("raise the limit on open files (ulimit -n)"));
                continue;
            }
            let namespace = dir.pod.namespace.as_str().into();
            let source = LineSource::Live { dir: dir.clone(), file, offset, is_compressed };
            found.push(LinePlace::new(namespace, span, source));
        }
    }
}

/// Limit on the live logs. They stay open, because kubelet may rename or compress them meanwhile.
fn live_logs_max() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX)
}

fn first_time(file: &File, offset: u64, is_compressed: bool) -> Option<Timestamp> {
    let mut start = [0; 64];
    // A compressed log is not unpacked up to the offset, because its first line is earlier than all others.
    let read = match is_compressed {
        false => read_full_at(file, &mut start, offset).ok()?,
        true => {
            let read = MultiGzDecoder::new(file).read(&mut start).ok()?;
            io::Seek::rewind(&mut &*file).ok()?;
            read
        }
    };
    super::cri::time_of(&start[..read])
}

/// Parses the name of an entry. Returns the container's directory and the number of the entry.
fn entry_of(name: &str) -> Option<(ContainerDir, u64)> {
    let (dir, file) = name.rsplit_once('/')?;
    let number = file.split('.').next()?.parse().ok()?;
    Some((dir.parse().ok()?, number))
}
