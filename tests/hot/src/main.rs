//! The instructions of each part, as valgrind counts them: the count does not depend on the machine's other
//! load.

use anyhow::{Context, bail, ensure};
use clap::Parser;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// Repetitions in two runs. The difference is measured, so that the process's start does not count.
const TIMES: [usize; 2] = [1, 6];
/// Allowed growth over the noted count; hash maps and the allocator cause less.
const GROWTH_PERCENT_MAX: u64 = 3;

/// Count the instructions of each part and compare them with those noted
#[derive(Debug, Parser)]
struct Options {
    /// Where they are noted
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt"))]
    noted: PathBuf,
    /// Note what is counted now
    #[arg(long)]
    note: bool,
    /// Only do one part, without counting
    #[arg(long, value_name = "PART", hide = true)]
    part: Option<String>,
    /// So many times
    #[arg(long, default_value_t = 1, hide = true)]
    times: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(part) = &options.part {
        let part = hot::PARTS.iter().find(|known| known.name == part).context("no such part")?;
        let mut work = (part.prepare)();
        let done: usize = (0..options.times).map(|_| work()).sum();
        ensure!(done > 0, "nothing was done");
        return Ok(());
    }
    let noted = std::fs::read_to_string(&options.noted).unwrap_or_default();
    let noted: BTreeMap<&str, u64> = noted
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    let (mut now, mut grown) = (String::new(), Vec::new());
    for hot::Part { name, once, .. } in hot::PARTS {
        let count = instructions(name)?;
        let before = noted.get(name).copied();
        let change = before.map_or_else(|| "not noted".to_owned(), |before| percent(count, before));
        writeln!(std::io::stdout(), "{name}: {count} instructions ({change}) for {once}")?;
        writeln!(now, "{name}: {count}")?;
        if before.is_none_or(|before| count * 100 > before * (100 + GROWTH_PERCENT_MAX)) {
            grown.push(name);
        }
    }
    if options.note {
        return std::fs::write(&options.noted, now)
            .with_context(|| format!("cannot write {}", options.noted.display()));
    }
    if !grown.is_empty() {
        bail!(
            "more instructions than noted: {}; if they are worth it: just instructions --note",
            grown.join(", ")
        );
    }
    Ok(())
}

fn percent(now: u64, before: u64) -> String {
    let permille = (i128::from(now) - i128::from(before)) * 1000 / i128::from(before.max(1));
    format!("{}{}.{} %", if permille < 0 { "-" } else { "+" }, permille.abs() / 10, permille.abs() % 10)
}

/// Counts the instructions of one repetition.
fn instructions(part: &str) -> anyhow::Result<u64> {
    let [few, many] = TIMES;
    let difference = counted(part, many)?.checked_sub(counted(part, few)?).context("more for less")?;
    Ok(difference / (many - few) as u64)
}

fn counted(part: &str, times: usize) -> anyhow::Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    let output = command.args(["--part", part, "--times", &times.to_string()]).output();
    let output = output.context("cannot start valgrind; it is in the package of that name")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    let count = said.lines().find_map(|line| line.split_once("Collected : ").map(|(_, count)| count.trim()));
    Ok(count.with_context(|| format!("no count: {said}"))?.parse()?)
}
