//! Appends lines to a file instead of sending them. Each line is exactly one O_APPEND write, so that several
//! writers of the same file never mix within a line.

use crate::sink::Sink;
use kit::disk::inode::Inode;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use kit::terminal;
use nix::fcntl::{FallocateFlags, fallocate};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The time within which a rotation of the file is noticed, unless a SIGHUP comes first.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The pause between two attempts to write to a full disk.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Appends every line that it receives to one file.
pub(crate) struct Append {
    path: PathBuf,
    state: RefCell<AppendState>,
}

struct AppendState {
    file: File,
    /// True until the end of this file was examined.
    is_new: bool,
    /// True while the file ends with an unfinished line of another run. The next line starts with a newline.
    is_unfinished: bool,
    looked: Instant,
    hangups: watch::Receiver<u64>,
    /// Lines that could not be written yet. Nothing more is read meanwhile.
    pending: VecDeque<Vec<u8>>,
    /// Bytes of the first pending line, and of a newline before it, that are in the file already. The disk
    /// filled up within them.
    begun_bytes: usize,
    error: Option<io::Error>,
    lines: u64,
}

impl Append {
    pub(crate) fn open(path: &Path, stop: &Stop) -> Result<Append, Fatal> {
        let file = open(path).map_err(|e| {
            Fatal::new(Exit::Failure, format!("cannot append to {}", path.display())).because(e)
        })?;
        let state = AppendState {
            file,
            is_new: true,
            is_unfinished: false,
            looked: Instant::now(),
            hangups: stop.hangups(),
            pending: VecDeque::new(),
            begun_bytes: 0,
            error: None,
            lines: 0,
        };
        Ok(Append { path: path.to_owned(), state: RefCell::new(state) })
    }

    /// Logs the totals. Fails if lines are left.
    pub(crate) fn close(self, exit: Exit) -> Result<Exit, Fatal> {
        let AppendState { pending, error, lines, .. } = self.state.into_inner();
        tracing::info!(event = "finished", file = %self.path.display(), lines, "done");
        if pending.is_empty() {
            return Ok(exit);
        }
        let code = if exit.code() == 0 { Exit::TryAgain } else { exit };
        let message = format!(
            "{} could not be appended to {}",
            terminal::count(pending.len() as u64, "line"),
            self.path.display()
        );
        let fatal = Fatal::new(code, message);
        Err(match error {
            Some(error) => fatal.because(error),
            None => fatal,
        })
    }
}

impl Sink for Append {
    async fn room(&self) {
        while !self.state.borrow_mut().write_pending(&self.path) {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn line(&self, line: &[u8]) {
        self.state.borrow_mut().pending.push_back(line.to_vec());
    }

    fn lines_came(&self) {
        self.state.borrow_mut().write_pending(&self.path);
    }
}

impl AppendState {
    /// Writes the pending lines. Returns true when none is left.
    fn write_pending(&mut self, path: &Path) -> bool {
        while !self.pending.is_empty() {
            let followed = self.follow(path);
            if followed.is_ok() && std::mem::take(&mut self.is_new) {
                self.is_unfinished = ends_mid_line(path, &self.file);
            }
            match followed.and_then(|()| self.write_line()) {
                Ok(true) => {
                    self.pending.pop_front();
                    (self.begun_bytes, self.is_unfinished) = (0, false);
                    self.lines += 1;
                    self.recovered(path);
                }
                // The disk filled up in the middle of a line: the rest follows when there is space.
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.error.is_none() {
                        tracing::error!(
                            event = "append_failed",
                            file = %path.display(),
                            %error,
                            "cannot append to the file, retrying"
                        );
                    }
                    self.error = Some(error);
                    return false;
                }
            }
        }
        true
    }

    /// Writes the rest of the first pending line, after a newline if the file ends with an unfinished one.
    /// Returns true if the line is complete.
    fn write_line(&mut self) -> io::Result<bool> {
        let Some(line) = self.pending.front() else { return Ok(true) };
        let newline: &[u8] = if self.is_unfinished { b"\n" } else { b"" };
        let begun_newline = self.begun_bytes.min(newline.len());
        let rest = &line[self.begun_bytes - begun_newline..];
        self.begun_bytes += match &newline[begun_newline..] {
            [] => self.file.write(rest)?,
            newline => self.file.write_vectored(&[IoSlice::new(newline), IoSlice::new(rest)])?,
        };
        Ok(self.begun_bytes == newline.len() + line.len())
    }

    /// Reopens the file when its name belongs to another one, as after a rotation. The rest of a line stays in
    /// the file that has its beginning. If that file was removed, the whole line goes into the next one.
    fn follow(&mut self, path: &Path) -> io::Result<()> {
        let asked = self.hangups.has_changed().unwrap_or(false);
        if !asked && self.looked.elapsed() < LOOK_AGAIN {
            return Ok(());
        }
        let ours = self.file.metadata()?;
        if self.begun_bytes > 0 && ours.nlink() > 0 {
            return Ok(());
        }
        if !Inode::from(&ours).is_at(path) {
            self.file = open(path)?;
            (self.is_new, self.is_unfinished) = (true, false);
            self.begun_bytes = 0;
        }
        self.hangups.mark_unchanged();
        self.looked = Instant::now();
        Ok(())
    }

    fn recovered(&mut self, path: &Path) {
        if self.error.take().is_some() {
            tracing::info!(event = "append_resumed", file = %path.display(), "appending to the file again");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// True if the file at `path` does not end with a newline, as after the exit of a writer whose disk was full.
/// False if other writers are appending, if the file cannot be read, or if it is not a regular one.
fn ends_mid_line(path: &Path, file: &File) -> bool {
    let ends_mid_line = || {
        let length = file.metadata().ok().filter(Metadata::is_file)?.len();
        // This process may be permitted to append, but not to read.
        let readable = File::open(path).ok()?;
        let mut last_byte = [0];
        readable.read_exact_at(&mut last_byte, length.checked_sub(1)?).ok()?;
        if last_byte == *b"\n" {
            return Some(false);
        }
        // The end may be that of a write still running, since a file grows page by page within one write.
        wait_for_running_writes(file);
        Some(file.metadata().ok()?.len() == length)
    };
    ends_mid_line().unwrap_or(false)
}

/// Returns when the writes to the file that were running at the call have ended. Like a write, an allocation
/// takes the file's lock. This one allocates nothing, for the file has a first byte.
fn wait_for_running_writes(file: &File) {
    // A file system that cannot allocate leaves the end as it was seen.
    let _ = fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 1);
}
