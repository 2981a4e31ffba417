//! The newest lines of a container's live log, for the page.

use crate::logs::log_file::read_full_at;
use crate::pods::cri::CriLine;
use crate::pods::place::{ContainerDir, LogName};
use crate::safe_dir::{Kind, SafeDir, status_of};
use serde::Serialize;
use std::io;
use std::path::PathBuf;

const LINES_SHOWN: usize = 100;
/// The number of bytes that are read from the end of the log.
const TAIL_BYTES: u64 = 128 << 10;
/// Limit on a line. A longer one is cut.
const LINE_BYTES_SHOWN: usize = 4000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineShown {
    /// Empty if the line does not have the format of a container runtime.
    pub time: String,
    pub stream: String,
    pub text: String,
}

impl LineShown {
    fn of(line: &[u8]) -> LineShown {
        let parsed = CriLine::parse(line);
        let content = parsed.map_or(line, |parsed| parsed.content);
        let content = &content[..content.len().min(LINE_BYTES_SHOWN)];
        LineShown {
            time: parsed.map_or(String::new(), |parsed| parsed.time.to_string()),
            stream: parsed.map_or("", |parsed| parsed.stream).to_owned(),
            text: String::from_utf8_lossy(content).into_owned(),
        }
    }
}

/// Follows the end of a container's live log.
pub struct NewestLines {
    pods: PathBuf,
    container: ContainerDir,
    /// The inode and the size of the log at the last look.
    seen: Option<(u64, u64)>,
}

impl NewestLines {
    pub fn new(pods: PathBuf, container: ContainerDir) -> NewestLines {
        NewestLines { pods, container, seen: None }
    }

    /// Returns the newest lines; `None` if there is nothing new.
    pub fn look(&mut self) -> io::Result<Option<Vec<LineShown>>> {
        let pods = SafeDir::open(&self.pods)?;
        let path = self.container.to_string();
        let listed = pods.names(path.as_bytes()).unwrap_or_default();
        let logs = listed.iter().filter_map(|name| name.parse().ok()).filter(LogName::is_live);
        let Some(newest) = logs.max() else { return Ok(None) };
        let file = pods.file(format!("{path}/{newest}").as_bytes())?;
        let look = status_of(&file)?;
        let now = (look.stamp.ino, look.stamp.size);
        if look.kind != Kind::Regular || look.links != 1 || self.seen == Some(now) {
            return Ok(None);
        }
        let from = look.stamp.size.saturating_sub(TAIL_BYTES);
        let mut bytes = vec![0; usize::try_from(look.stamp.size - from).unwrap_or(0)];
        let read = read_full_at(&file, &mut bytes, from)?;
        self.seen = Some(now);
        Ok(Some(newest_of(&bytes[..read], from > 0)))
    }
}

/// Returns the last lines. If the log's start is missing, the first line is incomplete and is skipped.
fn newest_of(bytes: &[u8], is_cut: bool) -> Vec<LineShown> {
    let lines = bytes.split(|byte| *byte == b'\n').skip(usize::from(is_cut));
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    let skipped = lines.len().saturating_sub(LINES_SHOWN);
    lines[skipped..].iter().map(|line| LineShown::of(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_shown_without_their_prefix() {
        let text = b"cut\n2026-11-28T10:00:01Z stderr F one\nplain";
        let shown = newest_of(text, true);
        let line = |time: &str, stream: &str, text: &str| LineShown {
            time: time.to_owned(),
            stream: stream.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(shown, [line("2026-11-28T10:00:01Z", "stderr", "one"), line("", "", "plain")]);
        let many = "x\n".repeat(500);
        assert_eq!(newest_of(many.as_bytes(), false).len(), LINES_SHOWN);
        assert_eq!(newest_of(&[b'y'; 10_000], false)[0].text.len(), LINE_BYTES_SHOWN);
    }
}
