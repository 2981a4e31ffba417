//! `logcd read`: prints lines of container logs in order of time, from the archives and the live logs.

use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::cri::{CriLine, whole_lines};
use crate::pods::cursor::{Checkpoint, Cursor, OpenArchive};
use crate::pods::followed_log::FollowedLog;
use crate::pods::hour::ArchiveName;
use crate::pods::hour_archive::undrafted;
use crate::pods::place::{ContainerDir, LogName, PodDir, is_label};
use crate::pods::store::{self, CHECKPOINT, names};
use crate::pods::veil::{self, ArchivePart, PART_BYTES, Span};
use crate::safe_dir::SafeDir;
use flate2::read::MultiGzDecoder;
use jiff::{SignedDuration, Timestamp};
use kit::exit::{Exit, Fatal};
use kit::settings::time::parse_time;
use regex::bytes::Regex;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A joined line is cut at this length, because a container may never end its line.
const JOINED_BYTES_MAX: usize = 1 << 20;
/// If the daemon commits while this command looks for lines, the command looks again, this many times.
const TRIES_MAX: u32 = 10;

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

    /// True if a place with this span may have wanted lines. Always true for a place without times.
    fn wants_span(&self, span: Span) -> bool {
        span.is_none_or(|(first, last)| {
            self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first <= until)
        })
    }
}

/// A place with lines: a member of an archive, or a live log.
enum LineSource {
    Member { archive: Rc<(PathBuf, File)>, place: std::ops::Range<u64> },
    Live { dir: Rc<ContainerDir>, file: File, offset: u64, is_compressed: bool },
}

struct LinePlace {
    namespace: Rc<str>,
    span: Span,
    source: LineSource,
}

/// Container runtimes write a line with an earlier time than the one before it, usually where a log was
/// rotated. Lines of a container stay in the order of its logs if their times go back by at most this.
const BACK_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Puts places in the order in which they are read, each with a time before which none of its lines and of
/// those after it is. The places of a namespace come in the order of its logs, and stay in that order if their
/// times go back a little. Places without times come first.
fn in_reading_order(found: Vec<LinePlace>) -> Vec<(Option<Timestamp>, LinePlace)> {
    let mut earliest_after: HashMap<Rc<str>, Timestamp> = HashMap::new();
    let mut places = Vec::with_capacity(found.len());
    for place in found.into_iter().rev() {
        let begin = place.span.map(|(first, _)| {
            let after = earliest_after.entry(place.namespace.clone()).or_insert(first);
            *after = first.min(*after);
            first.checked_sub(BACK_MAX).map_or(*after, |limit| limit.max(*after))
        });
        places.push((begin, place));
    }
    places.reverse();
    places.sort_by_key(|(begin, _)| *begin);
    places
}

pub fn read(options: &ReadOptions) -> Result<(), Fatal> {
    let failed = |trouble: ArchiveError| match trouble {
        ArchiveError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
            Fatal::new(Exit::Ok, "")
        }
        trouble => crate::once::fatal(trouble),
    };
    let (found, next_entry) = find(options).map_err(failed)?;
    let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    Merge {
        options,
        out,
        pending: BinaryHeap::new(),
        joined: HashMap::new(),
        latest: HashMap::new(),
        lines: 0,
    }
    .print(found, next_entry)
    .map_err(failed)
}

/// Finds all places, those of each namespace in the order of its logs, and the number of the next entry. Archives and live
/// logs are those of one commit, so that no line is missing or printed twice.
fn find(options: &ReadOptions) -> Result<(Vec<LinePlace>, u64), ArchiveError> {
    let mut tries_left = TRIES_MAX;
    loop {
        let loaded = load_checkpoint(&options.pods_out)?;
        let next_entry = end_of_entries(loaded.as_ref());
        // Without a checkpoint, no entry of a draft is committed.
        let with_drafts = loaded.is_some();
        let checkpoint = loaded.unwrap_or_default();
        let (mut found, mut live) = (Vec::new(), Vec::new());
        find_live(options, &checkpoint, &mut live)?;
        let seen = find_members(options, with_drafts, &mut found)?;
        let is_same = end_of_entries(load_checkpoint(&options.pods_out)?.as_ref()) == next_entry;
        let is_wanted = |open: &&OpenArchive| options.wants_namespace(&open.namespace);
        let is_seen = |open: &OpenArchive| seen.contains(&(open.namespace.clone(), open.name.clone()));
        let are_all_seen = checkpoint.open.iter().filter(is_wanted).all(is_seen);
        if is_same && are_all_seen || tries_left == 0 {
            // What is not archived yet comes after the archives.
            found.append(&mut live);
            return Ok((found, next_entry));
        }
        tries_left -= 1;
    }
}

/// Loads the checkpoint. A damaged one is ignored: only the daemon may rename it.
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

/// Finds the members of the archives. Returns the archives that were seen, by namespace and name; one that
/// gets its name meanwhile may be missing.
fn find_members(
    options: &ReadOptions,
    with_drafts: bool,
    found: &mut Vec<LinePlace>,
) -> Result<BTreeSet<(String, String)>, ArchiveError> {
    let mut seen = BTreeSet::new();
    let opened = options.pods_out.canonicalize().and_then(|path| SafeDir::open(&path));
    let out = opened.map_err(ArchiveError::on("read", &options.pods_out))?;
    for namespace in names(&out, b"")?.into_iter().filter(|name| is_label(name)) {
        if !options.wants_namespace(&namespace) {
            continue;
        }
        let path = out.path().join(&namespace);
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        let of: Rc<str> = namespace.as_str().into();
        // In this order, parts of an hour follow each other.
        let mut listed = names(&out, namespace.as_bytes())?;
        listed.sort_by_key(|name| undrafted(name).parse::<ArchiveName>().ok());
        for name in listed {
            // A new archive has the name of a draft for a moment after its first commit.
            let archive_name = undrafted(&name);
            if archive_name.parse::<ArchiveName>().is_err() || archive_name != name && !with_drafts {
                continue;
            }
            let path = path.join(&name);
            let file = match File::open(&path) {
                // The archive was removed after it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(ArchiveError::on("read", &path))?,
            };
            seen.insert((namespace.clone(), archive_name.to_owned()));
            let archive = Rc::new((path, file));
            for (place, span) in members_of(&archive.1).map_err(ArchiveError::on("read", &archive.0))? {
                if options.wants_span(span) {
                    let source = LineSource::Member { archive: archive.clone(), place };
                    found.push(LinePlace { namespace: of.clone(), span, source });
                }
            }
        }
    }
    Ok(seen)
}

/// Lists an archive's members by their headers. The members after the end mark belong to a commit that may
/// not have happened yet: the numbers of their entries decide.
fn members_of(archive: &File) -> io::Result<Vec<(std::ops::Range<u64>, Span)>> {
    let (mut at, mut members) = (veil::start().len() as u64, Vec::new());
    let mut header = [0; PART_BYTES];
    let bytes = archive.metadata()?.len();
    loop {
        let read = read_full_at(archive, &mut header, at)?;
        match veil::part(at, &header[..read]) {
            Some(ArchivePart::Member(member)) if member.place.end <= bytes => {
                at = member.place.end;
                members.push((member.place, member.span));
            }
            Some(ArchivePart::HiddenEnd | ArchivePart::End) => at += veil::END_BYTES,
            _ => return Ok(members),
        }
    }
}

fn find_live(
    options: &ReadOptions,
    checkpoint: &Checkpoint,
    found: &mut Vec<LinePlace>,
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
        for container in names(&pods, pod.to_string().as_bytes()).unwrap_or_default() {
            let Ok(dir) = pod.container(&container) else { continue };
            if options.wants(&dir) {
                find_logs(options, &pods, dir, checkpoint, found);
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
) {
    let path = dir.to_string();
    let cursors = checkpoint.containers.get(&path);
    let dir = Rc::new(dir);
    let mut logs: Vec<LogName> = names(pods, path.as_bytes())
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    logs.sort();
    for log in &logs {
        let Ok(file) = pods.file(format!("{path}/{log}").as_bytes()) else { continue };
        let Ok(metadata) = file.metadata() else { continue };
        let is_compressed = log.is_compressed();
        // The checkpoint may know the log from which kubelet made a compressed one.
        let start =
            if is_compressed { FollowedLog::start_of(&file, true).unwrap_or_default() } else { Vec::new() };
        let known = |cursor: &&Cursor| {
            cursor.inode == metadata.ino() || is_compressed && cursor.head_bytes > 0 && cursor.fits(&start)
        };
        let is_settled = cursors
            .is_some_and(|cursors| cursors.settled.iter().any(|settled| settled.is(metadata.ino(), log)));
        // A compressed log is skipped while kubelet has not removed the original yet.
        let is_copy = is_compressed && logs.contains(&log.uncompressed());
        if !metadata.is_file() || is_settled || is_copy {
            continue;
        }
        let offset =
            cursors.and_then(|cursors| cursors.logs.iter().find(known)).map_or(0, |cursor| cursor.offset);
        let span = first_time(&file, offset, is_compressed).map(|first| (first, Timestamp::MAX));
        if options.wants_span(span) {
            let dir = dir.clone();
            found.push(LinePlace {
                namespace: dir.pod.namespace.as_str().into(),
                span,
                source: LineSource::Live { dir, file, offset, is_compressed },
            });
        }
    }
}

fn first_time(file: &File, offset: u64, is_compressed: bool) -> Option<Timestamp> {
    let mut start = [0; 64];
    // The lines of a compressed log are all later than the first one.
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

/// A line that is printed once no earlier line can follow.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct TimedLine {
    /// The time by which lines are ordered: that of the line before, if this line's time is a little earlier.
    order: Timestamp,
    /// Keeps the order of lines with the same time.
    number: u64,
    time: Timestamp,
    dir: Rc<ContainerDir>,
    bytes: Vec<u8>,
}

/// The beginning of a line whose parts are joined.
struct Joined {
    time: Timestamp,
    content: Vec<u8>,
}

struct Merge<'a, W: Write> {
    options: &'a ReadOptions,
    out: W,
    pending: BinaryHeap<Reverse<TimedLine>>,
    joined: HashMap<(Rc<ContainerDir>, String), Joined>,
    /// The order of the last line of each container.
    latest: HashMap<Rc<ContainerDir>, Timestamp>,
    lines: u64,
}

impl<W: Write> Merge<'_, W> {
    fn print(mut self, found: Vec<LinePlace>, next_entry: u64) -> Result<(), ArchiveError> {
        let written = |error| ArchiveError::doing("write the lines")(error);
        for (begin, LinePlace { source, .. }) in in_reading_order(found) {
            if let Some(begin) = begin {
                self.print_before(begin).map_err(written)?;
            }
            match source {
                LineSource::Member { archive, place } => {
                    self.take_member(&archive.1, place, next_entry)
                        .map_err(ArchiveError::on("read", &archive.0))?;
                }
                LineSource::Live { dir, file, offset, is_compressed } => {
                    self.take_live(&dir, file, offset, is_compressed)
                        .map_err(ArchiveError::doing(format!("read {dir}")))?;
                }
            }
        }
        self.print_before(Timestamp::MAX).map_err(written)?;
        for ((dir, stream), joined) in std::mem::take(&mut self.joined) {
            self.put(&dir, &stream, &joined).map_err(written)?;
        }
        self.out.flush().map_err(written)
    }

    fn take_member(
        &mut self,
        archive: &File,
        place: std::ops::Range<u64>,
        next_entry: u64,
    ) -> io::Result<()> {
        let mut packed = vec![0; usize::try_from(place.end - place.start).unwrap_or(0)];
        archive.read_exact_at(&mut packed, place.start)?;
        let mut tar = tar::Archive::new(MultiGzDecoder::new(packed.as_slice()));
        for entry in tar.entries()? {
            let mut entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some((dir, number)) = entry_of(&name) else { continue };
            // Lines of a later commit are printed from the live logs.
            if !self.options.wants(&dir) || number >= next_entry {
                continue;
            }
            let mut lines = Vec::new();
            entry.read_to_end(&mut lines)?;
            self.take_lines(&Rc::new(dir), &lines);
        }
        Ok(())
    }

    fn take_live(
        &mut self,
        dir: &Rc<ContainerDir>,
        mut file: File,
        offset: u64,
        is_compressed: bool,
    ) -> io::Result<()> {
        let mut lines = Vec::new();
        if is_compressed {
            let mut decoder = MultiGzDecoder::new(file);
            io::copy(&mut (&mut decoder).take(offset), &mut io::sink())?;
            decoder.read_to_end(&mut lines)?;
        } else {
            io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
            file.read_to_end(&mut lines)?;
            // The last line may still be unfinished.
            lines.truncate(whole_lines(&lines));
        }
        self.take_lines(dir, &lines);
        Ok(())
    }

    fn take_lines(&mut self, dir: &Rc<ContainerDir>, lines: &[u8]) {
        let mut last = self.latest.get(dir).copied();
        for line in lines.split_inclusive(|b| *b == b'\n') {
            // A line without a time follows the one before it.
            let time = super::cri::time_of(line).or(last).unwrap_or(Timestamp::MIN);
            let order =
                last.filter(|last| last.duration_since(time) <= BACK_MAX).map_or(time, |last| time.max(last));
            last = Some(order);
            let is_wanted = self.options.since.is_none_or(|since| time >= since)
                && self.options.until.is_none_or(|until| time <= until);
            if is_wanted {
                self.lines += 1;
                self.pending.push(Reverse(TimedLine {
                    order,
                    number: self.lines,
                    time,
                    dir: dir.clone(),
                    bytes: line.to_vec(),
                }));
            }
        }
        if let Some(last) = last {
            self.latest.insert(dir.clone(), last);
        }
    }

    fn print_before(&mut self, time: Timestamp) -> io::Result<()> {
        while self.pending.peek().is_some_and(|Reverse(line)| line.order < time) {
            if let Some(Reverse(line)) = self.pending.pop() {
                self.print_line(&line)?;
            }
        }
        Ok(())
    }

    fn print_line(&mut self, line: &TimedLine) -> io::Result<()> {
        let bytes = line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes);
        let parsed = CriLine::parse(bytes);
        let content = parsed.map_or(bytes, |parsed| parsed.content);
        if self.options.output == ReadFormat::Raw {
            return match self.passes(content) {
                true => self.out.write_all(&[bytes, b"\n"].concat()),
                false => Ok(()),
            };
        }
        let stream = parsed.map_or("", |parsed| parsed.stream);
        let key = (line.dir.clone(), stream.to_owned());
        let joined = self.joined.remove(&key);
        let mut joined = joined.unwrap_or(Joined { time: line.time, content: Vec::new() });
        joined.content.extend(content);
        let is_partial = parsed.is_some_and(|parsed| parsed.is_partial);
        if is_partial && joined.content.len() < JOINED_BYTES_MAX {
            self.joined.insert(key, joined);
            return Ok(());
        }
        self.put(&line.dir, stream, &joined)
    }

    fn passes(&self, content: &[u8]) -> bool {
        self.options.grep.as_ref().is_none_or(|grep| grep.is_match(content))
    }

    fn put(&mut self, dir: &ContainerDir, stream: &str, joined: &Joined) -> io::Result<()> {
        if !self.passes(&joined.content) {
            return Ok(());
        }
        if self.options.output == ReadFormat::Json {
            let shown = JsonLine {
                time: joined.time.to_string(),
                namespace: &dir.pod.namespace,
                pod: &dir.pod.pod,
                uid: &dir.pod.uid,
                container: &dir.container,
                stream,
                line: &String::from_utf8_lossy(&joined.content),
            };
            serde_json::to_writer(&mut self.out, &shown)?;
        } else {
            self.out.write_all(&joined.content)?;
        }
        self.out.write_all(b"\n")
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    namespace: &'a str,
    pod: &'a str,
    uid: &'a str,
    container: &'a str,
    stream: &'a str,
    line: &'a str,
}

/// Parses the name of an entry. Returns the container's directory and the number of the entry.
fn entry_of(name: &str) -> Option<(ContainerDir, u64)> {
    let (dir, file) = name.rsplit_once('/')?;
    let number = file.split('.').next()?.parse().ok()?;
    Some((dir.parse().ok()?, number))
}
