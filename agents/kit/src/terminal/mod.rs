//! Prints for people: lines, tables, and plots of one line.

pub mod colour;

use crate::exit::{Exit, Fatal};
use bytesize::ByteSize;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

/// Clears a terminal and moves the cursor to its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints repeated output; on a terminal it replaces the output before.
pub fn again(content: &impl Display) -> Result<(), Fatal> {
    let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
    line(&format_args!("{clear}{content}"))
}

/// Prints one line. A reader that closed the pipe ends the program with success.
pub fn line(content: &impl Display) -> Result<(), Fatal> {
    bytes(format!("{content}\n").as_bytes())
}

/// Prints all bytes at once. A reader that closed the pipe ends the program with success.
pub fn bytes(content: &[u8]) -> Result<(), Fatal> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(content).and_then(|()| stdout.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Fatal::new(Exit::Ok, ""),
        _ => Fatal::new(Exit::Failure, "cannot write to stdout").because(e),
    })
}

/// Formats columns as wide as their widest cell: text aligned to the left, numbers to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            let right = column > 0 && is_number_column(rows, column);
            let gap = if column == 0 { "" } else { "  " };
            line.push_str(gap);
            line.push_str(&if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.pop();
    text
}

fn is_number_column(rows: &[Vec<String>], column: usize) -> bool {
    let cells = rows.iter().skip(1).filter_map(|row| row.get(column));
    cells
        .into_iter()
        .all(|cell| cell.chars().next().is_none_or(|first| first.is_ascii_digit() || first == '-'))
}

/// Formats a duration as `1h 5m`, `12s` or `350ms`: two units at most.
pub fn age(millis: u64) -> String {
    let whole =
        if millis >= 1000 { Duration::from_secs(millis / 1000) } else { Duration::from_millis(millis) };
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Makes foreign text safe for a terminal: one line, without control characters, cut to a readable length.
pub fn excerpt(text: &str, chars_max: usize) -> String {
    let mut out: String =
        text.chars().take(chars_max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        out.push('…');
    }
    out
}

/// Formats a number with its noun: `1 item`, `2 items`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Formats a size as `1.2 GiB`.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Plots one block for each value, scaled to the largest.
pub fn plot(values: impl IntoIterator<Item = u64, IntoIter: Clone>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = values.into_iter();
    let largest = u128::from(values.clone().max().unwrap_or(0).max(1));
    let height = |value: u64| (u128::from(value) * 7).div_ceil(largest);
    values.map(|value| BLOCKS[usize::try_from(height(value)).unwrap_or(0).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_escaped() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows =
            [row(["NAME", "READY", "VERDICT"]), row(["a", "12", "working"]), row(["bcdefg", "3", "drained"])];
        assert_eq!(table(&rows), "NAME    READY  VERDICT\na          12  working\nbcdefg      3  drained");
        assert_eq!(excerpt("a\x1b[2Jb\nc", 5), "a\u{fffd}[2J…");
        assert_eq!((age(350), age(12_345), age(3_904_000)), ("350ms".into(), "12s".into(), "1h 5m".into()));
        assert_eq!((count(0, "item"), count(1, "line")), ("0 items".into(), "1 line".into()));
        assert_eq!((size(17), size(5 << 20)), ("17 B".into(), "5.0 MiB".into()));
    }

    #[test]
    fn plot_scales_to_its_largest_value() {
        assert_eq!(plot([0, 1, 4, 8, u64::MAX / 2]), "▁▂▂▂█");
        assert_eq!((plot([0, 4, 8]), plot([0, 0]), plot([])), ("▁▅█".into(), "▁▁".into(), String::new()));
        assert_eq!(plot([u64::MAX]), "█");
    }
}
