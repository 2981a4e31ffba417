//! Parses the lines of container logs, which have the form `TIME STREAM TAG CONTENT` (container runtime
//! interface).

use jiff::Timestamp;
use memchr::{memchr, memrchr};

/// A line without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CriLine<'a> {
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// True if the next line of the same stream continues this one.
    pub is_partial: bool,
    pub content: &'a [u8],
}

impl<'a> CriLine<'a> {
    /// Parses a line. `None` if it has another format.
    pub fn parse(line: &'a [u8]) -> Option<CriLine<'a>> {
        let (time, rest) = word(line)?;
        let (stream, rest) = word(rest)?;
        // A line without content may lack the last space.
        let (tags, content) = word(rest).unwrap_or((rest, &[]));
        let stream = ["stdout", "stderr"].into_iter().find(|name| name.as_bytes() == stream)?;
        let is_partial = match tags.split(|b| *b == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(CriLine { time: time_in(time)?, stream, is_partial, content })
    }
}

fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b' ', bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn time_in(word: &[u8]) -> Option<Timestamp> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// Returns the time at the start of a line.
pub fn time_of(line: &[u8]) -> Option<Timestamp> {
    time_in(word(line)?.0)
}

/// Returns the earliest and the latest time of all lines. The times of the first and the last line are not
/// enough, because the clock may have been set back.
pub fn span(lines: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let times = lines.split(|b| *b == b'\n').filter_map(time_of);
    times.fold(None, |span: Option<(Timestamp, Timestamp)>, time| {
        Some(span.map_or((time, time), |(first, last)| (first.min(time), last.max(time))))
    })
}

/// Removes the lines up to this time, and the lines without a time that follow them. Stops at the first later
/// line. Returns true if there is one.
pub fn remove_until(lines: &mut Vec<u8>, until: Timestamp) -> bool {
    let mut removed = 0;
    for line in lines.split_inclusive(|b| *b == b'\n') {
        if time_of(line).is_some_and(|time| time > until) {
            lines.drain(..removed);
            return true;
        }
        removed += line.len();
    }
    lines.clear();
    false
}

/// Returns the number of bytes up to the end of the last whole line.
pub fn whole_lines(bytes: &[u8]) -> usize {
    memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_of_a_line_are_told_apart() {
        let line = CriLine::parse(b"2026-11-28T14:05:12.000000123+01:00 stderr P a  b").unwrap();
        assert_eq!(line.time, "2026-11-28T13:05:12.000000123Z".parse().unwrap());
        assert_eq!((line.stream, line.is_partial, line.content), ("stderr", true, &b"a  b"[..]));
        assert_eq!(CriLine::parse(b"2026-11-28T14:05:12Z stdout F").unwrap().content, b"");
        assert_eq!(CriLine::parse(b"2026-11-28T14:05:12Z stdout F:x y").unwrap().content, b"y");
    }

    #[test]
    fn other_formats_are_rejected() {
        for line in [
            "",
            "plain text",
            "2026-11-28T14:05:12Z stdin F x",
            "2026-11-28T14:05:12Z stdout X x",
            "now stdout F x",
        ] {
            assert_eq!(CriLine::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn span_is_that_of_all_lines_with_a_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (a, b) = (at("2026-11-28T14:05:12Z"), at("2026-11-28T14:05:13Z"));
        assert_eq!(span(format!("{a} stdout F x\nno time\n{b} stdout F y\n").as_bytes()), Some((a, b)));
        assert_eq!(span(format!("{a} stdout F x\ntorn").as_bytes()), Some((a, a)));
        // The clock was set back and forth.
        let text = format!("no time\n{b} stdout F x\n{a} stdout F y\n{b} stdout F z\n");
        assert_eq!(span(text.as_bytes()), Some((a, b)));
        assert_eq!(span(format!("{b} stdout F x\n{a} stdout F y\n").as_bytes()), Some((a, b)));
        assert_eq!(span(b"no time\n"), None);
    }

    #[test]
    fn lines_are_removed_up_to_a_time() {
        let at = |second: u32| format!("2026-11-28T14:05:{second:02}Z stdout F {second}\n");
        let until: Timestamp = "2026-11-28T14:05:02Z".parse().unwrap();
        let all = [&at(1)[..], "no time\n", &at(2), "no time\n", &at(3), "no time\n", &at(1)].concat();
        let mut lines = all.clone().into_bytes();
        assert!(remove_until(&mut lines, until));
        assert_eq!(String::from_utf8(lines).unwrap(), [&at(3)[..], "no time\n", &at(1)].concat());
        let mut lines = [at(1), at(2)].concat().into_bytes();
        assert!(!remove_until(&mut lines, until) && lines.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (CriLine::parse(&bytes), span(&bytes));
            let whole = whole_lines(&bytes);
            prop_assert!(!bytes[whole..].contains(&b'\n'));
            prop_assert!(whole == 0 || bytes[whole - 1] == b'\n');
        }

        #[test]
        fn content_comes_back(content in prop::collection::vec(any::<u8>(), 0..100), ns in 0i32..999_999_999, partial: bool) {
            let time = Timestamp::new(1_790_000_000, ns).unwrap();
            let tag = if partial { "P" } else { "F" };
            let line = [format!("{time} stdout {tag} ").as_bytes(), &content].concat();
            prop_assert_eq!(CriLine::parse(&line), Some(CriLine { time, stream: "stdout", is_partial: partial, content: &content }));
        }
    }
}
