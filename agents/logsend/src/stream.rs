//! Reads lines from a descriptor that another process may share: stdin, or a command's pipe.

use crate::sink::Sink;
use kit::lines::Splitter;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A pipe's capacity, so that one read takes everything in it.
const CHUNK_BYTES: usize = 64 * 1024;
/// The time for the rest of a line, if reading must stop in the middle of it.
const REST_OF_LINE: Duration = Duration::from_secs(1);

/// One stream of lines.
pub(crate) struct LineStream {
    input: InputFile,
    splitter: Splitter,
    chunk: Vec<u8>,
    echo: Option<Box<dyn Write>>,
}

enum InputFile {
    /// Pipes, sockets and terminals: wait, then read.
    Waits(AsyncFd<File>),
    /// Regular files and /dev/null: always readable.
    Ready(File),
}

impl LineStream {
    /// `echo` gets the bytes unchanged.
    pub(crate) fn new(
        fd: OwnedFd,
        line_bytes_max: usize,
        echo: Option<Box<dyn Write>>,
    ) -> io::Result<LineStream> {
        #[allow(unsafe_code, reason = "tokio has no safe way to wait for a file that stays in blocking mode")]
        // SAFETY: a `File` owns its descriptor, always gives the same one and keeps it open as long as it
        // lives.
        let input = match unsafe { AsyncFd::register_with_interest(File::from(fd), Interest::READABLE) } {
            Ok(fd) => InputFile::Waits(fd),
            Err(refused) => match refused.into_parts() {
                (file, e) if e.kind() == io::ErrorKind::PermissionDenied => InputFile::Ready(file),
                (_, e) => return Err(e),
            },
        };
        Ok(LineStream { input, splitter: Splitter::new(line_bytes_max), chunk: vec![0; CHUNK_BYTES], echo })
    }

    /// Reads lines into `sink` while it has room, until the stream ends or `quit` is cancelled. Cancel-safe:
    /// bytes that were read are in the sink or in the splitter, see `close`.
    pub(crate) async fn pump(&mut self, sink: &impl Sink, quit: &CancellationToken) {
        loop {
            let read = async {
                sink.room().await;
                self.input.readable().await
            };
            let readable = tokio::select! {
                biased;
                () = quit.cancelled() => break,
                readable = read => readable,
            };
            match readable.and_then(|()| self.take(CHUNK_BYTES, sink)) {
                Ok(0) => return self.close(sink),
                Ok(_) => {}
                Err(e) if is_passing(&e) => {}
                Err(error) => {
                    tracing::error!(
                        event = "input_read_failed",
                        %error,
                        "cannot read the input, treating it as ended"
                    );
                    return self.close(sink);
                }
            }
            // A regular file is always readable, so let the delivery run.
            tokio::task::yield_now().await;
        }
        self.end_line_here(sink).await;
        self.close(sink);
    }

    /// Takes what has arrived after the writer has ended, and does not wait for more.
    pub(crate) fn take_the_rest(&mut self, sink: &impl Sink) {
        const READS_MAX: u32 = 64; // another process might write for ever
        for _ in 0..READS_MAX {
            if !self.input.is_readable() || !matches!(self.take(CHUNK_BYTES, sink), Ok(1..)) {
                break;
            }
        }
        self.close(sink);
    }

    /// Ends the stream: a line without a newline becomes a whole one.
    pub(crate) fn close(&mut self, sink: &impl Sink) {
        self.splitter.finish(|line| sink.line(line));
        sink.lines_came();
    }

    /// Reads to the end of the current line, and not a byte further: the rest is for the next reader of the
    /// stream. The writer may be in the middle of the line, so it gets a moment.
    async fn end_line_here(&mut self, sink: &impl Sink) {
        while self.splitter.is_mid_line() {
            let readable = timeout(REST_OF_LINE, self.input.readable()).await;
            if !matches!(readable, Ok(Ok(()))) || !matches!(self.take(1, sink), Ok(1..)) {
                return;
            }
        }
    }

    fn take(&mut self, bytes_max: usize, sink: &impl Sink) -> io::Result<usize> {
        let length = self.input.file().read(&mut self.chunk[..bytes_max])?;
        let chunk = &self.chunk[..length];
        if let Some(echo) = &mut self.echo
            && echo.write_all(chunk).and_then(|()| echo.flush()).is_err()
        {
            tracing::warn!(event = "output_closed", "stdout is closed: --tee ends, the delivery continues");
            self.echo = None;
        }
        self.splitter.feed(chunk, |line| sink.line(line));
        sink.lines_came();
        Ok(length)
    }
}

impl InputFile {
    fn file(&self) -> &File {
        match self {
            InputFile::Waits(fd) => fd.get_ref(),
            InputFile::Ready(file) => file,
        }
    }

    async fn readable(&self) -> io::Result<()> {
        let InputFile::Waits(fd) = self else { return Ok(()) };
        loop {
            let mut ready = fd.readable().await?;
            if self.is_readable() {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// True if a read would not block. Checked before each read, since the descriptor stays in blocking mode:
    /// O_NONBLOCK would be set for every process that shares it, such as the user's shell.
    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(self.file().as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}
