//! The lines of one node, as they arrive from its reader.

use super::merge::Lines;
use super::options::Source;
use super::reader::{Reader, Unreachable};
use kit::line_records::{LineRecord, RecordReader, StreamPart};
use std::io::{self, Read};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Limit on the silence of a reader that has answered. While it searches, it sends a block twice a second.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Blocks that wait to be merged.
const WAITING_BLOCKS_MAX: usize = 2;
/// Limit on the text of a reader on stderr that is kept.
const COMPLAINT_BYTES_MAX: u64 = 4096;
const CUT: io::ErrorKind = io::ErrorKind::UnexpectedEof;
const SILENT: &str = "it has fallen silent";

/// A message from the thread that reads from a reader.
enum Arrival {
    Begun,
    Part(StreamPart),
    /// The end of the stream; an error if it was cut.
    End(io::Result<()>),
}

/// A running reader.
pub struct NodeStream {
    pub node: String,
    pub source: Source,
    child: Child,
    /// A reader that follows ends when its stdin does.
    _stdin: Option<ChildStdin>,
    arrivals: Receiver<Arrival>,
    /// Collects the text that the reader writes to stderr.
    complaint: Option<JoinHandle<String>>,
    block: std::vec::IntoIter<LineRecord>,
    state: State,
    /// The time of the last arrival.
    heard: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Running,
    /// All lines up to now have arrived. New ones follow.
    CaughtUp,
    /// All lines have arrived.
    Whole,
    /// Lines are missing, for this reason.
    Incomplete(String),
    /// Lines are missing, and the reason was told.
    Named,
}

impl NodeStream {
    /// Starts a reader. Each arrival rings the bell.
    pub fn start(reader: Reader, bell: SyncSender<()>) -> Result<NodeStream, Unreachable> {
        let Reader { node, source, mut command } = reader;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let program = command.get_program().to_string_lossy().into_owned();
                return Err(Unreachable { node, why: format!("cannot run {program}: {error}") });
            }
        };
        let (sender, arrivals) = sync_channel(WAITING_BLOCKS_MAX);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || receive(stdout, &sender, &bell));
        }
        let complaint = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                let _ = (&mut stderr).take(COMPLAINT_BYTES_MAX).read_to_end(&mut said);
                // A reader that says more must not wait for somebody to listen.
                let _ = io::copy(&mut stderr, &mut io::sink());
                String::from_utf8_lossy(&said).into_owned()
            })
        });
        Ok(NodeStream {
            node,
            source,
            _stdin: child.stdin.take(),
            child,
            arrivals,
            complaint,
            block: Vec::new().into_iter(),
            state: State::Running,
            heard: Instant::now(),
        })
    }

    /// Waits until the reader has answered.
    pub fn await_answer(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        match self.arrivals.recv_timeout(left) {
            Ok(arrival) => self.take(arrival),
            Err(RecvTimeoutError::Disconnected) => self.take(Arrival::End(Err(CUT.into()))),
            Err(RecvTimeoutError::Timeout) => self.give_up("it does not answer"),
        }
    }

    /// Returns some of the new lines that have arrived, without waiting.
    pub fn new_lines(&mut self) -> Vec<LineRecord> {
        // A block without lines only shows that the reader is alive.
        while self.block.len() == 0 && self.is_open() {
            match self.arrivals.try_recv() {
                Ok(arrival) => self.take(arrival),
                Err(TryRecvError::Disconnected) => self.take(Arrival::End(Err(CUT.into()))),
                Err(TryRecvError::Empty) if self.heard.elapsed() > SILENCE_MAX => self.give_up(SILENT),
                Err(TryRecvError::Empty) => break,
            }
        }
        std::mem::take(&mut self.block).collect()
    }

    /// True while new lines may arrive.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Running | State::CaughtUp)
    }

    fn take(&mut self, arrival: Arrival) {
        self.heard = Instant::now();
        match arrival {
            Arrival::Begun => {}
            Arrival::Part(StreamPart::Lines(block)) => self.block = block.into_iter(),
            Arrival::Part(StreamPart::CaughtUp) => self.state = State::CaughtUp,
            Arrival::End(result) => self.end(result),
        }
    }

    /// Returns the reason why lines are missing, if there is one, and only once.
    pub fn take_reason(&mut self) -> Option<Unreachable> {
        let State::Incomplete(why) = &mut self.state else { return None };
        let why = std::mem::take(why);
        self.state = State::Named;
        Some(Unreachable { node: self.node.clone(), why })
    }

    fn give_up(&mut self, why: &str) {
        // It may have ended meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.state = State::Incomplete(self.complained().unwrap_or_else(|| why.to_owned()));
    }

    fn end(&mut self, result: io::Result<()>) {
        let cut = match result {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Some("its lines end early".to_owned())
            }
            Err(error) => {
                // It may go on writing, and nobody reads.
                let _ = self.child.kill();
                Some(error.to_string())
            }
        };
        let failed = match self.child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("its reader ended with {status}")),
            Err(error) => Some(error.to_string()),
        };
        self.state = match cut.or(failed) {
            None => State::Whole,
            Some(why) => State::Incomplete(self.complained().unwrap_or(why)),
        };
    }

    /// Returns the last line that the reader said on stderr.
    fn complained(&mut self) -> Option<String> {
        let said = self.complaint.take()?.join().ok()?;
        said.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }
}

impl Drop for NodeStream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines for NodeStream {
    fn next_line(&mut self) -> Option<LineRecord> {
        loop {
            if let Some(line) = self.block.next() {
                return Some(line);
            }
            if self.state != State::Running {
                return None;
            }
            match self.arrivals.recv_timeout(SILENCE_MAX) {
                Ok(arrival) => self.take(arrival),
                Err(RecvTimeoutError::Timeout) => self.give_up(SILENT),
                Err(RecvTimeoutError::Disconnected) => self.take(Arrival::End(Err(CUT.into()))),
            }
        }
    }
}

/// Passes on what arrives, until nobody wants it any more.
fn receive(stdout: ChildStdout, arrivals: &SyncSender<Arrival>, bell: &SyncSender<()>) {
    let pass_on = |arrival| {
        let is_wanted = arrivals.send(arrival).is_ok();
        // It may be ringing already.
        let _ = bell.try_send(());
        is_wanted
    };
    let stdout = io::BufReader::with_capacity(64 << 10, stdout);
    let result = RecordReader::begin(stdout).and_then(|mut records| {
        let mut is_wanted = pass_on(Arrival::Begun);
        while is_wanted && let Some(part) = records.part()? {
            is_wanted = pass_on(Arrival::Part(part));
        }
        Ok(())
    });
    pass_on(Arrival::End(result));
}
