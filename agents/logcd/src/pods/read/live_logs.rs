//! Finds the live logs with lines that are not archived yet.

use super::line_source::{LINE_BYTES_MAX, LineSource};
use super::options::ReadOptions;
use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::cri::{time_of, whole_lines};
use crate::pods::cursor::{Checkpoint, Cursor, Cursors};
use crate::pods::followed_log::FollowedLog;
use crate::pods::hour_archive::is_no_file;
use crate::pods::place::{ContainerDir, LogName, PodDir};
use crate::pods::veil::Span;
use crate::safe_dir::{SafeDir, status_of};
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use nix::sys::resource::{Resource, getrlimit};
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// Limit on the holes of a live log, equal to the daemon's default. Larger ones would be read as zeros for
/// hours.
const HOLE_BYTES_MAX: u64 = 16 << 30;
/// Limit on the attempts to open all logs of a container. An attempt fails if kubelet renames one meanwhile.
const TRIES_MAX: u32 = 10;
/// Descriptors that live logs leave for everything else.
const OTHER_DESCRIPTORS: u64 = 16;

/// The live logs whose lines are missing in the output.
#[derive(Default)]
pub(super) struct UnreadLogs {
    count: u64,
    /// The first of them, and the reason.
    first: Option<(String, io::Error)>,
}

impl UnreadLogs {
    /// Notes a log or directory that could not be read, unless it was removed or is no file.
    fn note(&mut self, path: String, error: io::Error) {
        if error.kind() != io::ErrorKind::NotFound && !is_no_file(&error) {
            self.count += 1;
            self.first.get_or_insert((path, error));
        }
    }

    /// Fails if there is any, and names the first one.
    pub(super) fn result(self) -> Result<(), Fatal> {
        let Some((path, error)) = self.first else { return Ok(()) };
        let others = match self.count {
            1 => String::new(),
            count => format!(", and {} more live logs or directories", count - 1),
        };
        let message = format!("cannot open {path}{others}; their lines are not printed");
        Err(Fatal::new(Exit::Failure, message).because(error))
    }
}

/// A live log as a search has found it, with all lines up to its end.
pub(super) struct KnownLog {
    pub(super) dir: Rc<ContainerDir>,
    pub(super) name: LogName,
    pub(super) file: File,
    /// The device and inode.
    pub(super) id: (u64, u64),
    /// The end of the last whole line.
    pub(super) end: u64,
}

/// A live log that has lines after the archived ones.
pub(super) struct LiveLog {
    pub(super) namespace: String,
    pub(super) span: Span,
    pub(super) source: LineSource,
}

/// A search for live logs, and what it has found.
pub(super) struct LiveSearch<'a> {
    options: &'a ReadOptions,
    checkpoint: &'a Checkpoint,
    /// Limit on the live logs. They stay open, because kubelet may rename or compress them meanwhile.
    logs_max: usize,
    pub(super) logs: Vec<LiveLog>,
    /// All logs that are there, if new lines are wanted.
    pub(super) known: Vec<KnownLog>,
    pub(super) unread: UnreadLogs,
}

impl<'a> LiveSearch<'a> {
    pub(super) fn new(options: &'a ReadOptions, checkpoint: &'a Checkpoint) -> LiveSearch<'a> {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let logs_max = usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX);
        LiveSearch {
            options,
            checkpoint,
            logs_max,
            logs: Vec::new(),
            known: Vec::new(),
            unread: UnreadLogs::default(),
        }
    }

    /// Finds the logs of all wanted containers.
    pub(super) fn run(&mut self) -> Result<(), ArchiveError> {
        if self.options.pods == Path::new("none") {
            return Ok(());
        }
        let pods = match self.options.pods.canonicalize().and_then(|path| SafeDir::open(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(ArchiveError::on("read", &self.options.pods))?,
        };
        let listed = pods.names(b"").map_err(ArchiveError::on("list", pods.path()))?;
        for pod in listed {
            let Ok(pod) = pod.parse::<PodDir>() else { continue };
            if !self.options.wants_pod(&pod) {
                continue;
            }
            for container in self.list(&pods, &pod.to_string()) {
                let Ok(dir) = pod.container(&container) else { continue };
                if self.options.wants(&dir) {
                    self.find_logs(&pods, dir);
                }
            }
        }
        Ok(())
    }

    /// Lists a directory, which may have been removed meanwhile.
    fn list(&mut self, pods: &SafeDir, path: &str) -> Vec<String> {
        pods.names(path.as_bytes()).unwrap_or_else(|error| {
            self.unread.note(path.to_owned(), error);
            Vec::new()
        })
    }

    /// Finds the logs of one container.
    fn find_logs(&mut self, pods: &SafeDir, dir: ContainerDir) {
        let path = dir.to_string();
        let cursors = self.checkpoint.containers.get(&path);
        let dir = Rc::new(dir);
        let (logs_before, known_before) = (self.logs.len(), self.known.len());
        let mut names = self.log_names(pods, &path);
        for tries_left in (0..TRIES_MAX).rev() {
            for log in &names {
                // A compressed log is skipped while kubelet has not removed the original yet.
                let is_copy = log.is_compressed() && names.contains(&log.uncompressed());
                let log_path = format!("{path}/{log}");
                match pods.file(log_path.as_bytes()) {
                    Ok(file) if !is_copy => self.add(&dir, cursors, log, log_path, file),
                    Ok(_) => {}
                    Err(error) => self.unread.note(log_path, error),
                }
            }
            let again = self.log_names(pods, &path);
            if again == names || tries_left == 0 {
                return;
            }
            // A log that was renamed meanwhile may have been missed.
            names = again;
            self.logs.truncate(logs_before);
            self.known.truncate(known_before);
        }
    }

    /// Lists the logs of a container, the oldest first.
    fn log_names(&mut self, pods: &SafeDir, path: &str) -> Vec<LogName> {
        let mut names: Vec<LogName> =
            self.list(pods, path).iter().filter_map(|name| name.parse().ok()).collect();
        names.sort();
        names
    }

    /// Adds a log unless all its lines are archived.
    fn add(
        &mut self,
        dir: &Rc<ContainerDir>,
        cursors: Option<&Cursors>,
        log: &LogName,
        path: String,
        file: File,
    ) {
        let Ok(look) = status_of(&file) else { return };
        let inode = look.stamp.ino;
        let mut end = u64::MAX;
        if self.options.follow && !log.is_compressed() && !look.is_strange() {
            end = whole_end(&file, look.stamp.size);
            if let Ok(file) = file.try_clone() {
                self.known.push(KnownLog {
                    dir: dir.clone(),
                    name: log.clone(),
                    file,
                    id: look.stamp.id(),
                    end,
                });
            }
        }
        let is_settled = cursors.is_some_and(|cursors| cursors.settled.iter().any(|s| s.is(inode, log)));
        if look.is_strange() || look.has_holes_above(HOLE_BYTES_MAX) || is_settled {
            return;
        }
        let is_compressed = log.is_compressed();
        let start = FollowedLog::start_of(&file, is_compressed).unwrap_or_default();
        // The inode may be that of an older log. The checkpoint may know the original of a compressed log.
        let is_same = |cursor: &Cursor| cursor.inode == inode || is_compressed && cursor.head_bytes > 0;
        let known = |cursor: &&Cursor| is_same(cursor) && cursor.fits(&start);
        let offset =
            cursors.and_then(|cursors| cursors.logs.iter().find(known)).map_or(0, |cursor| cursor.offset);
        // A compressed log is not unpacked up to the offset, because its first line is earlier than all others.
        let first = if is_compressed { time_of(&start) } else { first_time(&file, offset) };
        let span = first.map(|first| (first, Timestamp::MAX));
        if !self.options.wants_span(span) {
            return;
        }
        if self.logs.len() >= self.logs_max {
            return self.unread.note(path, io::Error::other("raise the limit on open files (ulimit -n)"));
        }
        let source = LineSource::Live { dir: dir.clone(), file, offset, end, is_compressed };
        self.logs.push(LiveLog { namespace: dir.pod.namespace.clone(), span, source });
    }
}

/// Returns the end of the last whole line before `size`, or `size` if the line there is too long for one.
fn whole_end(file: &File, size: u64) -> u64 {
    let start = size.saturating_sub(LINE_BYTES_MAX as u64);
    let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(0)];
    let Ok(read) = read_full_at(file, &mut bytes, start) else { return size };
    match whole_lines(&bytes[..read]) {
        0 if start > 0 => size,
        whole => start + whole as u64,
    }
}

fn first_time(file: &File, offset: u64) -> Option<Timestamp> {
    let mut start = [0; 64];
    let read = read_full_at(file, &mut start, offset).ok()?;
    time_of(&start[..read])
}
