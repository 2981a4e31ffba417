//! `tar`, as far as `kubectl cp` and reading archives need it.

mod arguments;
mod create;
mod listing;
mod unpack;

use arguments::{Arguments, Mode};
use clap::Parser;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// The exit code of GNU tar when something failed.
const FAILED: i32 = 2;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The error of one tar run: the failed action, and the cause.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(what: impl Into<String>) -> Failure {
        Failure(what.into())
    }
}

/// Adds the path or other subject to an error, in `map_err`.
pub fn of<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure(format!("{what}: {error}"))
}

pub fn main(argv: &[OsString]) -> i32 {
    let arguments = match Arguments::try_parse_from(arguments::with_dash(argv)) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { FAILED } else { 0 };
        }
    };
    match run(&arguments) {
        Ok(true) => 0,
        Ok(false) => FAILED,
        Err(failure) => {
            complain(&failure.0);
            FAILED
        }
    }
}

/// Returns false if something was skipped, about which a line was printed.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let archive = arguments.file.as_path();
    match arguments.mode()? {
        Mode::Create => {
            let sink: Box<dyn Write> = if is_standard(archive) {
                Box::new(io::stdout().lock())
            } else {
                Box::new(File::create(archive).map_err(of(archive.display()))?)
            };
            let mut sink = BufWriter::with_capacity(1 << 16, sink);
            if arguments.gzip {
                let mut gzip = GzEncoder::new(&mut sink, Compression::default());
                let whole = create::create(&mut gzip, arguments)?;
                gzip.finish().map_err(of(archive.display()))?;
                sink.flush().map_err(of(archive.display()))?;
                Ok(whole)
            } else {
                let whole = create::create(&mut sink, arguments)?;
                sink.flush().map_err(of(archive.display()))?;
                Ok(whole)
            }
        }
        Mode::List => listing::list(open(archive)?, arguments),
        Mode::Extract => unpack::unpack(open(archive)?, arguments),
    }
}

fn is_standard(archive: &Path) -> bool {
    archive.as_os_str() == "-"
}

/// Opens the archive, and decompresses it if its first bytes are gzip's.
fn open(archive: &Path) -> Result<Box<dyn Read>, Failure> {
    let source: Box<dyn Read> = if is_standard(archive) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(archive).map_err(of(archive.display()))?)
    };
    let mut source = BufReader::with_capacity(1 << 16, source);
    let compressed = source.fill_buf().map_err(of(archive.display()))?.starts_with(&GZIP_MAGIC);
    Ok(if compressed { Box::new(BufReader::new(MultiGzDecoder::new(source))) } else { Box::new(source) })
}

/// Prints a line on stderr and does not end the run.
pub fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "tar: {what}");
}
