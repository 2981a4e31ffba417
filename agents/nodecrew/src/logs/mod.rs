//! `nodecrew logs`: the lines of all nodes in one stream, ordered by time.
//!
//! A [`reader`] for each node is an agent's own `read` command, run by kubectl or ssh. It sends its lines as a
//! [`node_stream`], already in order. [`merge`] brings them together, and [`line_printer`] prints them. A node
//! whose lines are missing is named, and the exit code is 75.

mod line_printer;
mod merge;
mod node_stream;
pub mod options;
mod reader;

use kit::exit::{Exit, Fatal};
use kit::terminal::count;
use line_printer::{LinePrinter, Origin};
use node_stream::NodeStream;
use options::{Options, Source};
use reader::Unreachable;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::time::Instant;

/// Prints the wanted lines to stdout.
pub fn run(options: &Options) -> Result<(), Fatal> {
    let (readers, mut unreachable) = reader::readers(options)?;
    let all = readers.len() + unreachable.len();
    let mut streams = Vec::new();
    for reader in readers {
        match NodeStream::start(reader) {
            Ok(stream) => streams.push(stream),
            Err(why) => unreachable.push(why),
        }
    }
    let until = Instant::now() + options.places.answer_within;
    for stream in &mut streams {
        stream.await_answer(until);
    }
    match print(options, &mut streams) {
        // Whoever reads this has received all that they need.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => return Err(Fatal::new(Exit::Failure, "cannot write to stdout").because(error)),
        Ok(()) => {}
    }
    unreachable.extend(streams.into_iter().filter_map(NodeStream::finish));
    report(options, &unreachable, all)
}

fn print(options: &Options, streams: &mut [NodeStream]) -> io::Result<()> {
    let origins: Vec<(String, Source)> =
        streams.iter().map(|stream| (stream.node.clone(), stream.source)).collect();
    let out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut printer = LinePrinter::new(options, out);
    let mut is_first = true;
    merge::merge(streams, |number, record| {
        let (node, source) = &origins[number];
        printer.print(Origin::parse(node, *source, &record.origin), &record)?;
        // The first line is shown while the others are still searched for.
        if std::mem::take(&mut is_first) { printer.flush() } else { Ok(()) }
    })?;
    printer.finish()
}

/// Names the nodes whose lines are missing.
fn report(options: &Options, unreachable: &[Unreachable], all: usize) -> Result<(), Fatal> {
    if unreachable.is_empty() {
        return Ok(());
    }
    let since = options.wanted.since.map_or("the beginning".to_owned(), |since| since.to_string());
    let until = options.wanted.until.map_or("now".to_owned(), |until| until.to_string());
    let mut stderr = io::stderr().lock();
    for Unreachable { node, why } in unreachable {
        // Nothing helps if stderr is closed.
        let _ = writeln!(stderr, "nodecrew: {node}: lines from {since} to {until} are missing: {why}");
    }
    let missing = unreachable.len();
    let message =
        format!("incomplete: {missing} of {} could not be read to the end", count(all as u64, "source"));
    Err(Fatal::new(Exit::TryAgain, message))
}
