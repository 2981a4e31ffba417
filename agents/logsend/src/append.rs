//! Appends lines to a file instead of sending them. Each line is exactly one O_APPEND write, so that several
//! writers of the same file never mix within a line.

use crate::sink::Sink;
use crate::tally::counted;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
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
    looked: Instant,
    hangups: watch::Receiver<u64>,
    /// Lines that could not be written yet. Nothing more is read meanwhile.
    pending: VecDeque<Vec<u8>>,
    /// Bytes of the first pending line that are in the file already, since the disk filled up within it.
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
        let message = format!("{} not appended to {}", counted(pending.len() as u64), self.path.display());
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
        while let Some(line) = self.pending.front() {
            let written =
                follow(path, &mut self.file, &mut self.looked, &mut self.hangups, &mut self.begun_bytes)
                    .and_then(|()| self.file.write(&line[self.begun_bytes..]));
            match written {
                Ok(length) if self.begun_bytes + length == line.len() => {
                    self.pending.pop_front();
                    self.begun_bytes = 0;
                    self.lines += 1;
                    self.recovered(path);
                }
                // The disk filled up in the middle of a line: the rest follows when there is space.
                Ok(length) => self.begun_bytes += length,
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

    fn recovered(&mut self, path: &Path) {
        if self.error.take().is_some() {
            tracing::info!(event = "append_resumed", file = %path.display(), "appending to the file again");
        }
    }
}

/// Reopens the file when its name belongs to another one, as after a rotation. The rest of a line stays in
/// the file that has its beginning. If that file was removed, the whole line goes into the next one.
fn follow(
    path: &Path,
    file: &mut File,
    looked: &mut Instant,
    hangups: &mut watch::Receiver<u64>,
    begun_bytes: &mut usize,
) -> io::Result<()> {
    let asked = hangups.has_changed().unwrap_or(false);
    if !asked && looked.elapsed() < LOOK_AGAIN {
        return Ok(());
    }
    let identity = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
    let ours = file.metadata()?;
    if *begun_bytes > 0 && ours.nlink() > 0 {
        return Ok(());
    }
    if !std::fs::metadata(path).is_ok_and(|named| identity(&named) == identity(&ours)) {
        *file = open(path)?;
        *begun_bytes = 0;
    }
    hangups.mark_unchanged();
    *looked = Instant::now();
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
