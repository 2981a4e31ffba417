//! Passes the output of commands through to this process's stdout and stderr, and remembers the last line.

use crate::last_line::LastLine;
use kit::lines::Splitter;
use nix::unistd::read;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CHUNK_BYTES: usize = 64 * 1024;
/// The longest line that is written whole when several commands run at once. A longer one becomes pieces of
/// this size, each a line of its own. Each command may hold this many bytes for stdout and for stderr.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Limit on the chunks that wait for a slow reader. At the limit the commands wait, as on any pipe.
const WAITING_CHUNKS_MAX: usize = 16;

/// The stdout or stderr of this process. A separate thread writes, so that a reader that stalls does not
/// delay the extension of leases.
#[derive(Clone)]
pub(crate) struct Echo {
    chunks: mpsc::Sender<Vec<u8>>,
    /// True if several commands run at once: their lines must not mix.
    whole_lines: bool,
}

impl Echo {
    /// Starts the thread that writes. The returned handle completes when the last clone of the `Echo` is
    /// dropped and everything is written.
    pub(crate) fn start(
        mut to: impl Write + Send + 'static,
        whole_lines: bool,
    ) -> (Echo, tokio::task::JoinHandle<()>) {
        let (chunks, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING_CHUNKS_MAX);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = waiting.blocking_recv() {
                if to.write_all(&chunk).and_then(|()| to.flush()).is_err() {
                    tracing::warn!(
                        event = "output_closed",
                        "stdout is closed: the commands' output is dropped, the work continues"
                    );
                    while waiting.blocking_recv().is_some() {}
                }
            }
        });
        (Echo { chunks, whole_lines }, writing)
    }

    async fn write(&self, chunk: Vec<u8>) {
        // The thread outlives all senders, so the chunk always has a receiver.
        let _ = self.chunks.send(chunk).await;
    }
}

/// Copies `pipe` to `echo` until its end. Once `ended` is cancelled, copies what the pipe still holds and
/// returns. A process that the command left running may hold it open, and must not delay the worker.
pub(crate) async fn pass(
    pipe: OwnedFd,
    stream: usize,
    echo: Echo,
    last_line: Arc<Mutex<LastLine>>,
    ended: CancellationToken,
) -> io::Result<()> {
    const READS_AFTER_THE_END_MAX: u32 = 64;
    let pipe = pipe::Receiver::from_file(File::from(pipe))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lines = Splitter::new(LINE_BYTES_MAX);
    let mut reads_left = READS_AFTER_THE_END_MAX;
    while reads_left > 0 {
        let over = ended.is_cancelled();
        reads_left -= u32::from(over);
        // After the end, read the pipe itself: tokio may not know yet that it has bytes.
        let read =
            if over { read(&pipe, &mut chunk).map_err(io::Error::from) } else { pipe.try_read(&mut chunk) };
        match read {
            Ok(0) => break,
            Ok(length) => {
                last_line.lock().unwrap_or_else(PoisonError::into_inner).feed(stream, &chunk[..length]);
                let mut ready = Vec::new();
                if echo.whole_lines {
                    lines.feed(&chunk[..length], |line| ready.extend_from_slice(line));
                } else {
                    ready.extend_from_slice(&chunk[..length]);
                }
                if !ready.is_empty() {
                    echo.write(ready).await;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && over => break,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::select! {
                ready = pipe.readable() => ready?,
                () = ended.cancelled() => {}
            },
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut rest = Vec::new();
    lines.finish(|line| rest.extend_from_slice(line));
    if !rest.is_empty() {
        echo.write(rest).await;
    }
    Ok(())
}
