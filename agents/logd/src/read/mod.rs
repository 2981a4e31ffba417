//! `logd read`: the log as one text, rotated files first, in the order in which it was written.
//!
//! The daemon may run meanwhile: a file that it rotates or compresses is neither missed nor printed twice.

mod printer;
mod snapshot;

use crate::file::rotated::directory_of;
use crate::line_filter::LineFilter;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use kit::settings::time::parse_time;
use notify::{RecursiveMode, Watcher};
use printer::Printer;
use regex::bytes::Regex;
use snapshot::Snapshot;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Options of `logd read`
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Read this file, to which logd appends, and the files rotated from it
    #[arg(long, value_name = "PATH", default_value = "node_log")]
    pub file: PathBuf,

    /// Keep printing new lines, through rotations, until interrupted
    #[arg(long, short)]
    pub follow: bool,

    /// Print only lines since a time (2026-11-21T08:00:00Z), a local time (2026-11-21 08:00), a date, or how
    /// long ago (2h). Raw lines carry no time: of them, only whole rotated files that ended earlier are
    /// skipped
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,

    /// Print only lines up to a time, in the same forms. Raw lines carry no time and are all printed
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,

    /// Print only lines that match this regular expression
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<Regex>,

    /// Print records for `nodecrew logs`: compressed, each line with its time
    #[arg(long, hide = true)]
    pub records: bool,
}

/// Prints to stdout until the end of the log, or for ever with `--follow`.
pub fn read(options: &Options) -> Result<(), Fatal> {
    let filter = LineFilter { since: options.since, until: options.until, grep: options.grep.clone() };
    if options.follow && options.records {
        kit::line_records::end_with_stdin();
    }
    let stdout = io::stdout().lock();
    let mut printer = Printer::new(BufWriter::with_capacity(64 * 1024, stdout), filter);
    match print_log(options, &mut printer) {
        // `logd read | head` has received all that it needs.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(e) => {
            Err(Fatal::new(Exit::Failure, format!("cannot read {}", options.file.display())).because(e))
        }
        Ok(()) => Ok(()),
    }
}

fn print_log(options: &Options, printer: &mut Printer<impl Write>) -> io::Result<()> {
    if options.records {
        printer.print_records()?;
    }
    let (wake, awake) = mpsc::channel();
    // Watching starts before the first look, so that no change between the two is missed.
    let _watcher = if options.follow { Some(watch(&directory_of(&options.file), wake)?) } else { None };
    let mut log = Snapshot::take(&options.file)?;
    for (file, compressed) in log.take_by_logrotate() {
        print_file(file, compressed, options.since, printer)?;
    }
    for (_, path) in log.rotated_after(0) {
        print_rotated(&path, options.since, printer)?;
    }
    let mut has_caught_up = false;
    loop {
        printer.copy(&mut log.current)?;
        if !options.follow {
            return printer.end();
        }
        if !std::mem::replace(&mut has_caught_up, true) {
            printer.catch_up()?;
        }
        printer.flush()?;
        if log.is_current(&options.file) {
            if log.was_truncated()? {
                io::Seek::rewind(&mut log.current)?;
            } else {
                // The timeout covers file systems that report no events.
                let _ = awake.recv_timeout(Duration::from_secs(1));
                while awake.try_recv().is_ok() {} // handle a burst of events as one
            }
            continue;
        }
        // The file was rotated. Print the rest of the old file, then the files rotated since, then the new
        // file. The old file has the next number: it is printed here, so that number is skipped below.
        printer.copy(&mut log.current)?;
        let mut next = Snapshot::take(&options.file)?;
        for (file, compressed) in next.take_by_logrotate_after(&log.current)? {
            print_file(file, compressed, options.since, printer)?;
        }
        for (number, path) in next.rotated_after(log.newest_number) {
            if number > log.newest_number + 1 {
                print_rotated(&path, options.since, printer)?;
            }
        }
        log = next;
    }
}

fn print_rotated(path: &Path, since: Option<Timestamp>, printer: &mut Printer<impl Write>) -> io::Result<()> {
    let compressed = |path: &Path| path.extension().is_some_and(|extension| extension == "gz");
    let mut path = path.to_owned();
    let file = match File::open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound && !compressed(&path) => {
            path.as_mut_os_string().push(".gz"); // compressed since it was listed
            File::open(&path)
        }
        other => other,
    };
    let file = match file {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()), // removed since, as the oldest file
        other => other?,
    };
    print_file(file, compressed(&path), since, printer)
}

fn print_file(
    mut file: File,
    compressed: bool,
    since: Option<Timestamp>,
    printer: &mut Printer<impl Write>,
) -> io::Result<()> {
    let ended: Option<Timestamp> = file.metadata()?.modified().ok().and_then(|time| time.try_into().ok());
    if let (Some(since), Some(ended)) = (since, ended)
        && ended < since
    {
        return Ok(());
    }
    if compressed { printer.copy(&mut MultiGzDecoder::new(file)) } else { printer.copy(&mut file) }
}

fn watch(directory: &Path, wake: mpsc::Sender<()>) -> io::Result<impl Watcher + use<>> {
    let mut watcher = notify::recommended_watcher(move |_| {
        let _ = wake.send(());
    })
    .map_err(io::Error::other)?;
    watcher.watch(directory, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::appender::Appender;
    use crate::file::housekeeping::tidy;
    use crate::file::rotated;
    use crate::file::rotation::RotationPolicy;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use kit::disk::free_space::MinFree;

    const POLICY: RotationPolicy = RotationPolicy {
        rotate_bytes: 60,
        rotate_age: Duration::ZERO,
        keep_files: 0,
        keep_bytes: 0,
        min_free: MinFree::Bytes(0),
    };

    /// Collects the output. Fails like a closed pipe once it has received the line `stop`.
    struct Reader(Vec<u8>);

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            if self.0.ends_with(b"stop\n") { Err(ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn options(file: &Path, follow: bool, grep: Option<&str>) -> Options {
        let grep = grep.map(|text| Regex::new(text).unwrap());
        Options { file: file.to_owned(), follow, since: None, until: None, grep, records: false }
    }

    fn print(options: &Options) -> String {
        let filter = LineFilter { since: options.since, until: options.until, grep: options.grep.clone() };
        let out = BufWriter::with_capacity(1, Reader(Vec::new()));
        let mut printer = Printer::new(out, filter);
        match print_log(options, &mut printer) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
            other => other.unwrap(),
        }
        String::from_utf8(printer.out.get_ref().0.clone()).unwrap()
    }

    fn numbers(range: std::ops::Range<u32>) -> String {
        range.map(|n| format!("line {n}\n")).collect()
    }

    #[test]
    fn files_are_printed_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node_log");
        let (mut appender, _) = Appender::open(&path, POLICY).unwrap();
        for n in 0..40 {
            appender.append(format!("line {n}\n").as_bytes()).unwrap();
            if n == 25 {
                tidy(&path, u64::MAX, &POLICY, true).unwrap();
            }
        }
        assert!(rotated::list(&path).unwrap().iter().any(|file| file.compressed));
        assert!(rotated::list(&path).unwrap().iter().any(|file| !file.compressed));
        assert_eq!(print(&options(&path, false, None)), numbers(0..40));
        assert_eq!(print(&options(&path, false, Some("^line 3.$"))), numbers(30..40));
        let future = Options { since: Some(Timestamp::MAX), ..options(&path, false, None) };
        let current = print(&future);
        assert!(
            current.len() <= 60 && numbers(0..40).ends_with(&current),
            "rotated files ended before: {current}"
        );
    }

    #[test]
    fn logrotate_files_are_printed_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node_log");
        let (mut appender, _) = Appender::open(&path, POLICY).unwrap();
        let mut old = GzEncoder::new(File::create(path.with_extension("2.gz")).unwrap(), Compression::fast());
        old.write_all(numbers(0..3).as_bytes()).unwrap();
        old.finish().unwrap();
        std::fs::write(path.with_extension("1"), numbers(3..5)).unwrap();
        for n in 5..20 {
            appender.append(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(print(&options(&path, false, None)), numbers(0..20));
    }

    #[test]
    fn following_loses_nothing_through_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node_log");
        let (mut appender, _) = Appender::open(&path, POLICY).unwrap();
        let options = options(&path, true, None);
        let reader = std::thread::spawn(move || print(&options));
        for n in 0..2000 {
            appender.append(format!("line {n}\n").as_bytes()).unwrap();
            if n % 300 == 299 {
                tidy(&path, u64::MAX, &POLICY, true).unwrap();
            }
        }
        appender.append(b"stop\n").unwrap();
        assert_eq!(reader.join().unwrap(), numbers(0..2000) + "stop\n");
    }
}
