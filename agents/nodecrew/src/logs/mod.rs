//! `nodecrew logs`: the lines of all nodes in one stream, ordered by time.
//!
//! A [`reader`] for each node is an agent's own `read` command, run by kubectl or ssh. It sends its lines as a
//! [`node_stream`], already in order. [`merge`] brings them together, and [`line_printer`] prints them. New lines
//! pass through [`hold_back`] instead. A node whose lines are missing is named, and the exit code is 75.

mod hold_back;
mod line_printer;
mod merge;
mod node_stream;
pub mod options;
mod reader;

use hold_back::HoldBack;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use kit::line_records::LineRecord;
use kit::terminal::count;
use line_printer::{LinePrinter, Origin};
use node_stream::NodeStream;
use options::{Options, Source};
use reader::Unreachable;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Limit on the time between two checks that all nodes still send something.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// Prints the wanted lines to stdout.
pub fn run(options: &Options) -> Result<(), Fatal> {
    let (readers, mut unreachable) = reader::readers(options)?;
    let all = readers.len() + unreachable.len();
    let mut streams = Vec::new();
    let (bell, rung) = sync_channel(1);
    for reader in readers {
        match NodeStream::start(reader, bell.clone()) {
            Ok(stream) => streams.push(stream),
            Err(why) => unreachable.push(why),
        }
    }
    let until = Instant::now() + options.places.answer_within;
    for stream in &mut streams {
        stream.await_answer(until);
    }
    let mut missing = Missing::new(options, all);
    unreachable.into_iter().for_each(|one| missing.name(one));
    match print(options, &mut streams, &rung, &mut missing) {
        // Whoever reads this has received all that they need.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => return Err(Fatal::new(Exit::Failure, "cannot write to stdout").because(error)),
        Ok(()) => {}
    }
    missing.result()
}

fn print(
    options: &Options,
    streams: &mut [NodeStream],
    rung: &Receiver<()>,
    missing: &mut Missing<'_>,
) -> io::Result<()> {
    let mut output = Output::new(options, streams);
    let mut is_first = true;
    merge::merge(streams, |number, record| {
        output.print(number, &record)?;
        // The first line is shown while the others are still searched for.
        if std::mem::take(&mut is_first) { output.printer.flush() } else { Ok(()) }
    })?;
    output.printer.flush()?;
    streams.iter_mut().filter_map(NodeStream::take_reason).for_each(|one| missing.name(one));
    if options.printing.follow {
        missing.since = Some(Timestamp::now());
        follow(streams, rung, &mut output, missing)?;
    }
    output.printer.finish()
}

/// Prints new lines until no reader is left. The bell rings when something arrives.
fn follow(
    streams: &mut [NodeStream],
    rung: &Receiver<()>,
    output: &mut Output,
    missing: &mut Missing<'_>,
) -> io::Result<()> {
    let mut held = HoldBack::new(streams.len());
    while streams.iter().any(NodeStream::is_open) {
        let now = Instant::now();
        let mut is_idle = true;
        for (number, stream) in streams.iter_mut().enumerate() {
            let lines = stream.new_lines();
            is_idle &= lines.is_empty();
            lines.into_iter().for_each(|line| held.add(number, line, now));
            stream.take_reason().into_iter().for_each(|one| missing.name(one));
        }
        held.release(now, |number, record| output.print(number, &record))?;
        if is_idle {
            output.printer.flush()?;
            // In either case, the next round looks at everything.
            let _ = rung.recv_timeout(held.until_release(now).unwrap_or(CHECK_AFTER));
        }
    }
    held.release_all(|number, record| output.print(number, &record))
}

/// Stdout, and what is known of each stream.
struct Output {
    printer: LinePrinter<BufWriter<StdoutLock<'static>>>,
    /// The node and the source of each stream.
    origins: Vec<(String, Source)>,
}

impl Output {
    fn new(options: &Options, streams: &[NodeStream]) -> Output {
        let out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let origins = streams.iter().map(|stream| (stream.node.clone(), stream.source)).collect();
        Output { printer: LinePrinter::new(options, out), origins }
    }

    fn print(&mut self, number: usize, record: &LineRecord) -> io::Result<()> {
        let (node, source) = &self.origins[number];
        self.printer.print(Origin::parse(node, *source, &record.origin), record)
    }
}

/// The nodes whose lines are missing.
struct Missing<'a> {
    options: &'a Options,
    /// The beginning of the time span whose lines are missing now.
    since: Option<Timestamp>,
    /// The number of nodes and sources that are read.
    all: usize,
    count: usize,
}

impl Missing<'_> {
    fn new(options: &Options, all: usize) -> Missing<'_> {
        Missing { options, since: options.wanted.since, all, count: 0 }
    }

    /// Names a node whose lines are missing.
    fn name(&mut self, Unreachable { node, why }: Unreachable) {
        let since = self.since.map_or("the beginning".to_owned(), |since| format!("{since:.0}"));
        let until = match self.options.wanted.until {
            _ if self.options.printing.follow => "the end".to_owned(),
            None => "now".to_owned(),
            Some(until) => format!("{until:.0}"),
        };
        self.count += 1;
        // Nothing helps if stderr is closed.
        let said = format!("nodecrew: {node}: lines from {since} to {until} are missing: {why}\n");
        let _ = io::stderr().lock().write_all(said.as_bytes());
    }

    fn result(self) -> Result<(), Fatal> {
        let (missing, all) = (self.count, count(self.all as u64, "source"));
        match missing {
            0 => Ok(()),
            _ => {
                let message = format!("incomplete: {missing} of {all} could not be read to the end");
                Err(Fatal::new(Exit::TryAgain, message))
            }
        }
    }
}
