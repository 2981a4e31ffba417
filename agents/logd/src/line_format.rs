//! Formats a line for the file: unchanged, with time and peer in front, or as a JSON object.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use std::net::SocketAddr;

/// The form in which lines are written to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LineFormat {
    /// The line, byte for byte
    Raw,
    /// Time of arrival, peer, line
    Stamped,
    /// {"time":…,"peer":…,"line":…}; "line_base64" where the line is not UTF-8
    Json,
}

/// The part that all lines of one read share: built once per read, not once per line.
#[derive(Clone, Debug)]
pub struct LineWriter {
    format: LineFormat,
    prefix: Vec<u8>,
}

impl LineWriter {
    pub fn new(format: LineFormat, now: Timestamp, peer: SocketAddr) -> LineWriter {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let prefix = match format {
            LineFormat::Raw => String::new(),
            LineFormat::Stamped => format!("{now:.6} {peer} "),
            LineFormat::Json => format!("{{\"time\":\"{now:.6}\",\"peer\":\"{peer}\","),
        };
        LineWriter { format, prefix: prefix.into_bytes() }
    }

    /// Writes one line with its newline.
    pub fn write(&self, line: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        match self.format {
            LineFormat::Raw | LineFormat::Stamped => out.extend_from_slice(line),
            LineFormat::Json => {
                match std::str::from_utf8(line) {
                    Ok(text) => member("line", text, out),
                    Err(_) => member("line_base64", &STANDARD.encode(line), out),
                }
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }
}

fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, value);
}

/// Returns the time that a line was given, in any format; `None` for a raw line.
pub fn time_of(line: &[u8]) -> Option<Timestamp> {
    let (text, end) = match line.strip_prefix(b"{\"time\":\"") {
        Some(rest) => (rest, b'"'),
        None => (line, b' '),
    };
    // A longer text cannot be a time. The limit also avoids searching a megabyte of text for its end.
    let length = text.iter().take(40).position(|b| *b == end)?;
    std::str::from_utf8(&text[..length]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use proptest::prelude::*;

    fn write(format: LineFormat, line: &[u8]) -> Vec<u8> {
        let peer = "[::ffff:10.1.2.3]:4000".parse().unwrap();
        let mut out = Vec::new();
        LineWriter::new(format, Timestamp::UNIX_EPOCH, peer).write(line, &mut out);
        out
    }

    #[test]
    fn stamped_and_json_name_time_and_peer() {
        assert_eq!(write(LineFormat::Stamped, b"hi"), b"1970-01-01T00:00:00.000000Z 10.1.2.3:4000 hi\n");
        let json = b"{\"time\":\"1970-01-01T00:00:00.000000Z\",\"peer\":\"10.1.2.3:4000\",\"line\":\"a \\\"b\\\"\\u0007\"}\n";
        assert_eq!(write(LineFormat::Json, b"a \"b\"\x07"), json);
        assert!(write(LineFormat::Json, b"\xff\x00").ends_with(b"\"line_base64\":\"/wA=\"}\n"));
    }

    #[test]
    fn written_time_is_found_again() {
        for format in LineFormat::value_variants() {
            let expected = (*format != LineFormat::Raw).then_some(Timestamp::UNIX_EPOCH);
            assert_eq!(time_of(&write(*format, b"hi")), expected, "{format:?}");
        }
    }

    proptest! {
        #[test]
        fn json_lines_give_the_bytes_back(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let out = write(LineFormat::Json, &line);
            prop_assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
            let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let back = match object["line"].as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => STANDARD.decode(object["line_base64"].as_str().unwrap()).unwrap(),
            };
            prop_assert_eq!(back, line);
        }
    }
}
