//! `logcd read --follow`: prints the new lines of container logs, through rotations, restarts and new pods.
//!
//! The logs are looked at a few times a second. A log stays open until it no longer grows, whatever happens to
//! its name.

use super::line_printer::LinePrinter;
use super::line_source::LINE_BYTES_MAX;
use super::live_logs::KnownLog;
use super::merge::written;
use super::options::ReadOptions;
use crate::error::ArchiveError;
use crate::logs::log_file::read_full_at;
use crate::pods::cri::{time_of, whole_lines};
use crate::pods::place::{ContainerDir, LogName, PodDir};
use crate::safe_dir::{SafeDir, status_of};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK_AFTER: Duration = Duration::from_millis(200);
/// Limit on the bytes that one look takes. The rest follows at once.
const LOOK_BYTES_MAX: usize = 8 << 20;
/// A log without a name is closed if it has not grown for this time.
const CLOSE_AFTER: Duration = Duration::from_secs(2);

/// A log that is held open.
struct OpenLog {
    dir: Rc<ContainerDir>,
    /// The last name that was seen.
    name: LogName,
    /// Logs that were opened later have higher numbers.
    number: u64,
    file: File,
    offset: u64,
    /// The latest time of its new lines.
    time: Timestamp,
    /// The time of the last look that found a name of the log, or a new line.
    alive: Instant,
}

/// A new line, and the time by which it is sorted.
struct NewLine {
    time: Timestamp,
    dir: Rc<ContainerDir>,
    bytes: Vec<u8>,
}

/// The logs that are followed below a directory.
struct Follower<'a> {
    options: &'a ReadOptions,
    pods: SafeDir,
    /// By device and inode: a name may lead to another log at any time.
    logs: HashMap<(u64, u64), OpenLog>,
    next_number: u64,
}

/// Prints new lines until the reader of stdout is gone.
pub(super) fn follow<W: Write>(
    options: &ReadOptions,
    known: Vec<KnownLog>,
    printer: &mut LinePrinter<'_, W>,
) -> Result<(), ArchiveError> {
    printer.catch_up().map_err(written)?;
    let failed = || ArchiveError::on("follow the logs below", &options.pods);
    let pods = options.pods.canonicalize().and_then(|path| SafeDir::open(&path)).map_err(failed())?;
    let mut follower = Follower { options, pods, logs: HashMap::new(), next_number: 0 };
    for KnownLog { dir, name, file, id, end } in known {
        follower.log(id, &dir, name, file).offset = end;
    }
    loop {
        let lines = follower.look().map_err(failed())?;
        for line in &lines {
            printer.print(line.time, &line.dir, &line.bytes).map_err(written)?;
        }
        match lines.is_empty() {
            true => printer.stay_alive().map_err(written)?,
            false => printer.flush().map_err(written)?,
        }
        let wait = if lines.is_empty() { LOOK_AFTER } else { Duration::ZERO };
        if is_reader_gone(wait).map_err(written)? {
            return Ok(());
        }
    }
}

/// Waits, and returns true as soon as nobody reads stdout any more.
fn is_reader_gone(wait: Duration) -> io::Result<bool> {
    let stdout = io::stdout();
    let mut asked = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut asked, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let found = asked[0].revents().unwrap_or(PollFlags::empty());
    Ok(found.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL))
}

impl Follower<'_> {
    /// Returns the new lines of all logs, ordered by time.
    fn look(&mut self) -> io::Result<Vec<NewLine>> {
        self.open_new_logs()?;
        let mut lines = Vec::new();
        let mut bytes_left = LOOK_BYTES_MAX;
        let mut logs: Vec<&mut OpenLog> = self.logs.values_mut().collect();
        // Lines with the same time keep the order of the logs.
        logs.sort_by(|a, b| (&a.dir, &a.name, a.number).cmp(&(&b.dir, &b.name, b.number)));
        for log in logs {
            log.take_lines(self.options, &mut bytes_left, &mut lines);
        }
        self.logs.retain(|_, log| log.alive.elapsed() < CLOSE_AFTER);
        lines.sort_by_key(|line| line.time);
        Ok(lines)
    }

    /// Opens the logs that have appeared, and notes which ones still have a name.
    fn open_new_logs(&mut self) -> io::Result<()> {
        for pod in self.pods.names(b"")? {
            let Ok(pod) = pod.parse::<PodDir>() else { continue };
            if !self.options.wants_pod(&pod) {
                continue;
            }
            // A pod may be removed at any time. Its open logs are read to their end.
            for container in self.pods.names(pod.to_string().as_bytes()).unwrap_or_default() {
                let Ok(dir) = pod.container(&container) else { continue };
                if self.options.wants(&dir) {
                    self.open_logs_of(dir);
                }
            }
        }
        Ok(())
    }

    fn open_logs_of(&mut self, dir: ContainerDir) {
        let path = dir.to_string();
        let dir = Rc::new(dir);
        for name in self.pods.names(path.as_bytes()).unwrap_or_default() {
            let Ok(name) = name.parse::<LogName>() else { continue };
            // A compressed log is a copy of one that was followed.
            if name.is_compressed() {
                continue;
            }
            let Ok(file) = self.pods.file(format!("{path}/{name}").as_bytes()) else { continue };
            let Ok(look) = status_of(&file) else { continue };
            if look.is_strange() {
                continue;
            }
            let log = self.log(look.stamp.id(), &dir, name.clone(), file);
            (log.name, log.alive) = (name, Instant::now());
        }
    }

    /// Returns an open log, which may be new.
    fn log(&mut self, id: (u64, u64), dir: &Rc<ContainerDir>, name: LogName, file: File) -> &mut OpenLog {
        let number = self.next_number;
        self.next_number += 1;
        let (time, alive) = (Timestamp::MIN, Instant::now());
        let new = || OpenLog { dir: dir.clone(), name, number, file, offset: 0, time, alive };
        self.logs.entry(id).or_insert_with(new)
    }
}

impl OpenLog {
    /// Takes the whole lines after the last one. What cannot be read now is tried again at the next look.
    fn take_lines(&mut self, options: &ReadOptions, bytes_left: &mut usize, lines: &mut Vec<NewLine>) {
        let size = self.file.metadata().map_or(self.offset, |metadata| metadata.len());
        if size < self.offset {
            self.offset = 0;
        }
        let mut bytes = vec![0; usize::try_from(size - self.offset).unwrap_or(usize::MAX).min(*bytes_left)];
        let Ok(read) = read_full_at(&self.file, &mut bytes, self.offset) else { return };
        let whole = match whole_lines(&bytes[..read]) {
            0 if read >= LINE_BYTES_MAX => LINE_BYTES_MAX,
            whole => whole,
        };
        if whole == 0 {
            return;
        }
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            let time = time_of(line);
            self.time = time.map_or(self.time, |time| time.max(self.time));
            if options.wants_time(time.unwrap_or(self.time)) {
                lines.push(NewLine { time: self.time, dir: self.dir.clone(), bytes: line.to_owned() });
            }
        }
        self.offset += whole as u64;
        *bytes_left -= whole;
        self.alive = Instant::now();
    }
}
