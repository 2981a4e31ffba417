//! What commands write: passed through to this process's stdout and stderr, with an eye on the last line.

use crate::tail::Tail;
use nix::unistd::read;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for a slow reader; beyond them the commands are held up, as on any pipe.
const WAITING_CHUNKS_MAX: usize = 16;

/// This process's stdout or stderr. The writing is done by a thread of its own: a reader that stalls must
/// not keep a lease from being extended.
#[derive(Clone)]
pub(crate) struct Echo {
    chunks: mpsc::Sender<Vec<u8>>,
    /// Several commands at once: their lines stay whole.
    whole_lines: bool,
}

impl Echo {
    /// The second part ends when everything is written, after the last clone of the first is dropped.
    pub(crate) fn start(
        mut to: impl Write + Send + 'static,
        whole_lines: bool,
    ) -> (Echo, tokio::task::JoinHandle<()>) {
        let (chunks, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING_CHUNKS_MAX);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = waiting.blocking_recv() {
                if to.write_all(&chunk).and_then(|()| to.flush()).is_err() {
                    tracing::warn!(
                        "nobody reads the commands' output any more: it is dropped, the work goes on"
                    );
                    while waiting.blocking_recv().is_some() {}
                }
            }
        });
        (Echo { chunks, whole_lines }, writing)
    }

    async fn write(&self, chunk: Vec<u8>) {
        // The thread ends after the last sender, so there is always somebody to take it.
        let _ = self.chunks.send(chunk).await;
    }
}

/// Reads `pipe` to its end, or to what is in it when `ended` is cancelled: what a command left behind may
/// hold the pipe open, and is not waited for.
pub(crate) async fn pass(
    pipe: OwnedFd,
    stream: usize,
    echo: Echo,
    tail: Arc<Mutex<Tail>>,
    ended: CancellationToken,
) -> io::Result<()> {
    const READS_AFTER_THE_END_MAX: u32 = 64;
    let pipe = pipe::Receiver::from_file(File::from(pipe))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut line = Vec::new();
    let mut reads_left = READS_AFTER_THE_END_MAX;
    while reads_left > 0 {
        let over = ended.is_cancelled();
        reads_left -= u32::from(over);
        // Once it is over the pipe itself is asked: what the runtime knows of it may be a moment old.
        let read =
            if over { read(&pipe, &mut chunk).map_err(io::Error::from) } else { pipe.try_read(&mut chunk) };
        match read {
            Ok(0) => break,
            Ok(length) => {
                tail.lock().unwrap_or_else(PoisonError::into_inner).feed(stream, &chunk[..length]);
                line.extend_from_slice(&chunk[..length]);
                let ready = if echo.whole_lines { whole(&line) } else { line.len() };
                if ready > 0 {
                    let rest = line.split_off(ready);
                    echo.write(std::mem::replace(&mut line, rest)).await;
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
    if !line.is_empty() {
        line.push(b'\n');
        echo.write(line).await;
    }
    Ok(())
}

/// How much of `bytes` is whole lines; of a line without an end, all when it is too long to wait for.
fn whole(bytes: &[u8]) -> usize {
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => newline + 1,
        None if bytes.len() >= CHUNK_BYTES => bytes.len(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_whole_unless_they_are_too_long() {
        assert_eq!((whole(b"a\nbc\nd"), whole(b"abc"), whole(b"")), (5, 0, 0));
        assert_eq!(whole(&vec![b'x'; CHUNK_BYTES]), CHUNK_BYTES);
    }
}
