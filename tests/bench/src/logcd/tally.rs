//! Finds out which of the written lines a contender has.

use crate::programs;
use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The script that prints all lines in logcd's archives.
pub const PRINT_ARCHIVES: &str = "for archive in \"$1\"/*/*.tar.gz; do tar -xzOf \"$archive\" || exit; done";

/// Builds the command that prints all lines that a contender has kept. `$1` in the script is `out`.
pub fn reader(script: &str, out: &Path) -> Command {
    let mut command = programs::shell();
    command.args(["-c", script, "sh"]).arg(out);
    command
}

/// The fate of the lines that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub lost: usize,
    pub repeated: usize,
    /// Lines that were never written in this form.
    pub torn: usize,
}

impl Tally {
    /// Reads the lines that a command prints. `written` has the number of lines of each container.
    pub fn of(command: &mut Command, written: &[usize]) -> anyhow::Result<Tally> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no output")?;
        let tally = Tally::read(BufReader::with_capacity(1 << 20, output), written);
        ensure!(child.wait()?.success(), "{command:?} failed");
        tally
    }

    fn read(mut lines: impl BufRead, written: &[usize]) -> anyhow::Result<Tally> {
        let mut seen: Vec<Vec<bool>> = written.iter().map(|&lines| vec![false; lines]).collect();
        let mut tally = Tally::default();
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            let place = place(&line).and_then(|(container, number)| seen.get_mut(container)?.get_mut(number));
            match place {
                None => tally.torn += 1,
                Some(seen) if *seen => tally.repeated += 1,
                Some(seen) => *seen = true,
            }
            line.clear();
        }
        tally.lost = seen.iter().flatten().filter(|seen| !**seen).count();
        Ok(tally)
    }
}

/// Returns the container and the number of a line that ends with them and is as it was written.
fn place(line: &[u8]) -> Option<(usize, usize)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (rest, number) = line.rsplit_once(" n=")?;
    let (text, container) = rest.rsplit_once(" c=")?;
    let is_whole = text.starts_with("2026-11-28T") && !text.contains(" c=");
    is_whole.then_some((container.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_counted_once() {
        let text = "2026-11-28T a c=0 n=0\n2026-11-28T a c=0 n=0\n2026-11-28T b c=1 n=1\n\
                    2026-11-28T a c=1 2026-11-28T a c=1 n=0\n11-28T a c=1 n=0\n2026-11-28T a c=9 n=0\n2026-11-28T a c=0 n=1";
        let tally = Tally::read(text.as_bytes(), &[2, 2]).unwrap();
        assert_eq!(tally, Tally { lost: 2, repeated: 1, torn: 4 });
    }
}
