//! Prints lines in the wanted format, and joins the parts into which the container runtime has split a line.

use super::options::{ReadFormat, ReadOptions};
use crate::pods::cri::CriLine;
use crate::pods::place::{ContainerDir, PodDir};
use jiff::Timestamp;
use kit::line_records::RecordEncoder;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};
use std::rc::Rc;

/// Limit on a joined line, because a container may never end its line. A longer one is cut.
const JOINED_BYTES_MAX: usize = 1 << 20;

/// The first parts of a line that is being joined.
struct Joined {
    time: Timestamp,
    content: Vec<u8>,
}

pub(super) struct LinePrinter<'a, W: Write> {
    options: &'a ReadOptions,
    out: W,
    /// The encoder of [`ReadFormat::Records`], after the first line.
    records: Option<RecordEncoder>,
    /// The unfinished line of each container and stream.
    joined: HashMap<(Rc<ContainerDir>, &'static str), Joined>,
}

impl<'a, W: Write> LinePrinter<'a, W> {
    pub(super) fn new(options: &'a ReadOptions, out: W) -> LinePrinter<'a, W> {
        LinePrinter { options, out, records: None, joined: HashMap::new() }
    }

    /// Tells a reader on another host from time to time that the search goes on. The first call tells it that
    /// the search has begun.
    pub(super) fn stay_alive(&mut self) -> io::Result<()> {
        if self.options.output != ReadFormat::Records {
            return Ok(());
        }
        match &mut self.records {
            Some(records) => records.stay_alive(&mut self.out),
            None => {
                self.records = Some(RecordEncoder::begin(&mut self.out)?);
                Ok(())
            }
        }
    }

    /// Prints a line of a container, or keeps it until its last part follows. A line without a time gets the
    /// time by which it is sorted.
    pub(super) fn print(
        &mut self,
        sort_time: Timestamp,
        dir: &Rc<ContainerDir>,
        bytes: &[u8],
    ) -> io::Result<()> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let parsed = CriLine::parse(bytes);
        let content = parsed.map_or(bytes, |parsed| parsed.content);
        if self.options.output == ReadFormat::Raw {
            return match self.is_wanted(content) {
                true => self.out.write_all(&[bytes, b"\n"].concat()),
                false => Ok(()),
            };
        }
        let stream = parsed.map_or("", |parsed| parsed.stream);
        let key = (dir.clone(), stream);
        let time = parsed.map_or(sort_time, |parsed| parsed.time);
        let mut joined = self.joined.remove(&key).unwrap_or(Joined { time, content: Vec::new() });
        joined.content.extend(content);
        let is_partial = parsed.is_some_and(|parsed| parsed.is_partial);
        if is_partial && joined.content.len() < JOINED_BYTES_MAX {
            self.joined.insert(key, joined);
            return Ok(());
        }
        self.write(dir, stream, &joined)
    }

    /// Shows everything that was printed.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.records {
            Some(records) => records.flush(&mut self.out),
            None => self.out.flush(),
        }
    }

    /// Tells a reader on another host that the lines up to now were printed.
    pub(super) fn catch_up(&mut self) -> io::Result<()> {
        match &mut self.records {
            Some(records) => records.catch_up(&mut self.out),
            None => self.out.flush(),
        }
    }

    /// Prints the lines whose last part is missing.
    pub(super) fn finish(mut self) -> io::Result<()> {
        for ((dir, stream), joined) in std::mem::take(&mut self.joined) {
            self.write(&dir, stream, &joined)?;
        }
        self.stay_alive()?;
        match self.records {
            Some(records) => records.end(&mut self.out),
            None => self.out.flush(),
        }
    }

    fn is_wanted(&self, content: &[u8]) -> bool {
        self.options.grep.as_ref().is_none_or(|grep| grep.is_match(content))
    }

    fn write(&mut self, dir: &ContainerDir, stream: &str, joined: &Joined) -> io::Result<()> {
        self.stay_alive()?;
        if !self.is_wanted(&joined.content) {
            return Ok(());
        }
        if let Some(records) = &mut self.records {
            let PodDir { namespace, pod, .. } = &dir.pod;
            let origin = format!("{namespace}/{pod}/{}/{stream}", dir.container);
            return records.add(&mut self.out, Some(joined.time), &origin, &joined.content);
        }
        if self.options.output == ReadFormat::Json {
            let shown = JsonLine {
                time: joined.time.to_string(),
                namespace: &dir.pod.namespace,
                pod: &dir.pod.pod,
                uid: &dir.pod.uid,
                container: &dir.container,
                stream,
                line: &String::from_utf8_lossy(&joined.content),
            };
            serde_json::to_writer(&mut self.out, &shown)?;
        } else {
            self.out.write_all(&joined.content)?;
        }
        self.out.write_all(b"\n")
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    namespace: &'a str,
    pod: &'a str,
    uid: &'a str,
    container: &'a str,
    stream: &'a str,
    line: &'a str,
}
