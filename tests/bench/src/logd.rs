//! logd against the bare loop: CPU per gigabyte, throughput and memory, with the outcome checked line by line.

use crate::lines::Load;
use crate::process::Contender;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A minute instead of ten
    #[arg(long)]
    quick: bool,
    /// The release binary
    #[arg(long, value_name = "PATH", default_value = "target/release/logd")]
    logd: PathBuf,
}

#[derive(Clone, Copy, Debug)]
struct Result {
    cpu_seconds_per_gb: f64,
    mb_per_second: f64,
    peak_mib: f64,
}

const SYNC_MODES: [(&str, &str); 2] = [("logd", "never"), ("logd, sync 1s", "1s")];

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.logd.exists() {
        bail!("{} is not there: cargo build --release -p logd", options.logd.display());
    }
    let (rounds, megabytes) = if options.quick { (3, 200) } else { (5, 400) };
    let mut table = String::from(
        "| load | contender | CPU s/GB | × bare loop | MB/s | peak MiB |\n|---|---|---|---|---|---|\n",
    );
    for (name, lines_per_write, megabytes) in
        [("16 KiB writes", 80, megabytes), ("a write a line", 1, megabytes / 4)]
    {
        for connections in [1, 8, 64] {
            let load =
                Load { connections, line_bytes: 200, lines_per_write, total_bytes: megabytes * 1_000_000 };
            compare(&mut table, &format!("{name}, {connections} connections"), &load, rounds, &options.logd)?;
        }
    }
    write!(std::io::stdout(), "\n{table}")?;
    Ok(())
}

fn compare(table: &mut String, name: &str, load: &Load, rounds: usize, logd: &Path) -> anyhow::Result<()> {
    let mut results = vec![Vec::new(); 1 + SYNC_MODES.len()];
    for round in 0..rounds {
        for (contender, results) in results.iter_mut().enumerate() {
            eprint_progress(name, round, rounds);
            let directory = tempfile::tempdir()?;
            let file = directory.path().join("node_log");
            let running = match contender.checked_sub(1) {
                None => start_bare_loop(&file)?,
                Some(mode) => start_logd(logd, &file, SYNC_MODES[mode].1)?,
            };
            results.push(measure(&running, load)?);
            load.check(&file).with_context(|| format!("{name}: the outcome is wrong"))?;
        }
    }
    let bare = median(&results[0]);
    let names = std::iter::once("bare loop").chain(SYNC_MODES.map(|mode| mode.0));
    for (contender, results) in names.zip(&results) {
        let Result { cpu_seconds_per_gb: cpu, mb_per_second, peak_mib } = median(results);
        let ratio = cpu / bare.cpu_seconds_per_gb;
        writeln!(
            table,
            "| {name} | {contender} | {cpu:.2} | {ratio:.2} | {mb_per_second:.0} | {peak_mib:.1} |"
        )?;
    }
    Ok(())
}

fn measure(contender: &Contender, load: &Load) -> anyhow::Result<Result> {
    let before = contender.cost()?;
    let began = Instant::now();
    load.send(contender.port)?;
    let seconds = began.elapsed().as_secs_f64();
    let after = contender.cost()?;
    let gigabytes = f64::from(u32::try_from(load.bytes())?) / 1e9;
    Ok(Result {
        cpu_seconds_per_gb: (after.cpu_seconds - before.cpu_seconds) / gigabytes,
        mb_per_second: gigabytes * 1000.0 / seconds,
        peak_mib: after.peak_mib,
    })
}

/// The round in the middle by CPU, whole: figures of different rounds do not belong on one line.
fn median(results: &[Result]) -> Result {
    let mut sorted = results.to_vec();
    sorted.sort_by(|a, b| a.cpu_seconds_per_gb.total_cmp(&b.cpu_seconds_per_gb));
    sorted[sorted.len() / 2]
}

fn start_bare_loop(file: &Path) -> anyhow::Result<Contender> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare-loop").arg(file).stdout(Stdio::piped());
    Contender::start(command, |child| {
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        Ok(line.trim().parse()?)
    })
}

fn start_logd(logd: &Path, file: &Path, sync: &str) -> anyhow::Result<Contender> {
    let mut command = Command::new(logd);
    command.arg("--file").arg(file);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "none",
        "--rotate-size",
        "0",
        "--log-format",
        "json",
    ]);
    command.args(["--sync", sync]).stderr(Stdio::piped());
    Contender::start(command, |child| {
        let log = BufReader::new(child.stderr.take().context("no stderr")?);
        for line in log.lines() {
            let line = line?;
            if let Some((_, rest)) = line.split_once("[127.0.0.1:") {
                let (port, _) = rest.split_once(']').context("no address")?;
                return Ok(port.parse()?);
            }
        }
        bail!("logd ended without listening")
    })
}

fn eprint_progress(name: &str, round: usize, rounds: usize) {
    let _ = writeln!(std::io::stderr(), "{name}: round {} of {rounds}", round + 1);
}
