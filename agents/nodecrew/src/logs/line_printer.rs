//! Prints lines with the names of their pods, as text or JSON.

use super::options::{LinesFormat, Options, Source};
use kit::line_records::LineRecord;
use kit::terminal::colour;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// The colours of pods on a terminal (SGR codes). A pod keeps its colour.
const COLOURS: [u8; 6] = [36, 32, 35, 33, 34, 31];

/// The node and the log that a line comes from. logd's lines have only a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin<'a> {
    pub node: &'a str,
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
    pub stream: &'a str,
}

impl<'a> Origin<'a> {
    /// Parses an agent's words for the origin of a line.
    pub fn parse(node: &'a str, source: Source, words: &'a str) -> Origin<'a> {
        let mut parts = words.splitn(4, '/');
        let mut part = || parts.next().unwrap_or_default();
        match source {
            Source::Pods => {
                Origin { node, namespace: part(), pod: part(), container: part(), stream: part() }
            }
            Source::Logd => Origin { node, ..Origin::default() },
        }
    }
}

/// The numbers of lines and bytes of a pod, or of a node's logd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    lines: u64,
    bytes: u64,
}

pub struct LinePrinter<W> {
    out: W,
    format: LinesFormat,
    has_timestamps: bool,
    /// False if the namespace of all lines is known.
    has_namespace: bool,
    has_colour: bool,
    /// True on a terminal, which would take some bytes for commands.
    escapes: bool,
    /// The numbers of each namespace and pod, if they are printed instead of lines.
    counted: Option<BTreeMap<(String, String), Counted>>,
    text: String,
}

impl<W: Write> LinePrinter<W> {
    pub fn new(options: &Options, out: W) -> LinePrinter<W> {
        let is_terminal = io::stdout().is_terminal();
        LinePrinter {
            out,
            format: options.printing.output,
            has_timestamps: options.printing.timestamps,
            has_namespace: options.wanted.namespace.is_none(),
            has_colour: colour::is_wanted(is_terminal),
            escapes: is_terminal,
            counted: options.printing.stats.then(BTreeMap::new),
            text: String::new(),
        }
    }

    pub fn print(&mut self, origin: Origin<'_>, record: &LineRecord) -> io::Result<()> {
        if let Some(counted) = &mut self.counted {
            let (group, name) = match origin.pod {
                "" => ("logd", origin.node),
                pod => (origin.namespace, pod),
            };
            let counted = counted.entry((group.to_owned(), name.to_owned())).or_default();
            counted.lines += 1;
            counted.bytes += record.line.len() as u64 + 1;
            return Ok(());
        }
        match self.format {
            LinesFormat::Json => self.print_json(origin, record),
            LinesFormat::Plain => {
                self.name(origin, record);
                self.out.write_all(self.text.as_bytes())?;
                self.print_line(&record.line)
            }
            LinesFormat::Raw => self.print_line(&record.line),
        }
    }

    /// Prints the numbers, if they are wanted. Must be called after the last line.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(counted) = &self.counted {
            let header = ["NAMESPACE", "POD", "LINES", "BYTES"].map(str::to_owned).to_vec();
            let row = |((namespace, pod), counted): (&(String, String), &Counted)| {
                vec![namespace.clone(), pod.clone(), counted.lines.to_string(), counted.bytes.to_string()]
            };
            let rows: Vec<_> = std::iter::once(header).chain(counted.iter().map(row)).collect();
            writeln!(self.out, "{}", kit::terminal::table(&rows))?;
        }
        self.out.flush()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the words before a line to `text`.
    fn name(&mut self, origin: Origin<'_>, record: &LineRecord) {
        self.text.clear();
        if self.has_timestamps
            && let Some(time) = record.time
        {
            // Writing to memory does not fail.
            let _ = write!(self.text, "{time} ");
        }
        let words = match origin.pod {
            "" => [origin.node, "", ""],
            pod if self.has_namespace => [origin.namespace, pod, origin.container],
            pod => ["", pod, origin.container],
        };
        if self.has_colour {
            let sum: usize = origin.node.bytes().chain(origin.pod.bytes()).map(usize::from).sum();
            let _ = write!(self.text, "\x1b[{}m", COLOURS[sum % COLOURS.len()]);
        }
        for word in words.into_iter().filter(|word| !word.is_empty()) {
            self.text.push_str(word);
            self.text.push(' ');
        }
        if self.has_colour {
            self.text.push_str("\x1b[0m");
        }
    }

    fn print_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.out.write_all(&escaped(line, self.escapes))?;
        self.out.write_all(b"\n")
    }

    fn print_json(&mut self, origin: Origin<'_>, record: &LineRecord) -> io::Result<()> {
        let Origin { node, namespace, pod, container, stream } = origin;
        let time = record.time.map(|time| time.to_string());
        let line = String::from_utf8_lossy(&record.line);
        let shown = JsonLine { node, time, namespace, pod, container, stream, line };
        serde_json::to_writer(&mut self.out, &shown)?;
        self.out.write_all(b"\n")
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    container: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    stream: &'a str,
    line: Cow<'a, str>,
}

/// Returns the bytes with control characters written as `\x1b`, if that is wanted.
fn escaped(bytes: &[u8], is_wanted: bool) -> Cow<'_, [u8]> {
    if !is_wanted || !has_control_character(bytes) {
        return Cow::Borrowed(bytes);
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push('\t'),
                control if control.is_control() => {
                    let _ = write!(text, "\\x{:02x}", u32::from(control));
                }
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    Cow::Owned(text.into_bytes())
}

/// True if a terminal may take some of the bytes for commands. In text that is not UTF-8, a single byte from
/// 0x80 to 0x9f may be one.
fn has_control_character(bytes: &[u8]) -> bool {
    match str::from_utf8(bytes) {
        Ok(text) => text.chars().any(|character| character.is_control() && character != '\t'),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer(format: LinesFormat) -> LinePrinter<Vec<u8>> {
        LinePrinter {
            out: Vec::new(),
            format,
            has_timestamps: false,
            has_namespace: true,
            has_colour: false,
            escapes: false,
            counted: None,
            text: String::new(),
        }
    }

    fn record(line: &[u8]) -> LineRecord {
        let time = "2026-11-28T14:05:12Z".parse().ok();
        LineRecord { time, origin: "shop/web-1/app/stderr".into(), line: line.to_owned() }
    }

    fn printed(mut printer: LinePrinter<Vec<u8>>, line: &[u8]) -> String {
        let record = record(line);
        printer.print(Origin::parse("node-1", Source::Pods, &record.origin), &record).unwrap();
        String::from_utf8(printer.out).unwrap()
    }

    #[test]
    fn lines_carry_the_names_of_their_pods() {
        assert_eq!(printed(printer(LinesFormat::Plain), b"hi"), "shop web-1 app hi\n");
        let short = LinePrinter { has_namespace: false, has_timestamps: true, ..printer(LinesFormat::Plain) };
        assert_eq!(printed(short, b"hi"), "2026-11-28T14:05:12Z web-1 app hi\n");
        assert_eq!(printed(printer(LinesFormat::Raw), b"hi"), "hi\n");
        let json: serde_json::Value =
            serde_json::from_str(&printed(printer(LinesFormat::Json), b"a \"b\"")).unwrap();
        assert_eq!(
            (&json["node"], &json["pod"], &json["line"]),
            (&"node-1".into(), &"web-1".into(), &"a \"b\"".into())
        );
    }

    #[test]
    fn terminal_receives_no_commands() {
        let terminal = || LinePrinter { escapes: true, ..printer(LinesFormat::Raw) };
        assert_eq!(printed(terminal(), b"\x1b[2Jx\ty\r"), "\\x1b[2Jx\ty\\x0d\n");
        assert_eq!(printed(terminal(), "ä\u{9b}2J".as_bytes()), "ä\\x9b2J\n");
        assert_eq!(printed(terminal(), b"\x9b2J"), "\\x9b2J\n");
        assert_eq!(printed(terminal(), "ä €".as_bytes()), "ä €\n");
        assert_eq!(printed(printer(LinesFormat::Raw), b"\x1b[2J"), "\x1b[2J\n");
    }

    #[test]
    fn pods_are_counted() {
        let mut printer = LinePrinter { counted: Some(BTreeMap::new()), ..printer(LinesFormat::Plain) };
        let record = record(b"four");
        for pod in ["shop/web-1/app/stdout", "shop/web-1/app/stderr", "shop/web-2/app/stdout"] {
            printer.print(Origin::parse("node-1", Source::Pods, pod), &record).unwrap();
        }
        printer.print(Origin::parse("node-1", Source::Logd, "logd"), &record).unwrap();
        let counted: Vec<_> =
            printer.counted.unwrap().into_iter().map(|(key, c)| (key.1, c.lines, c.bytes)).collect();
        assert_eq!(counted, [("node-1".into(), 1, 5), ("web-1".into(), 2, 10), ("web-2".into(), 1, 5)]);
    }
}
