//! logcd against GNU tar with gzip, pigz, zstd and igzip: with only new content, with a little, with none,
//! and as the logs grow.

mod command_cost;
mod day;
mod kubelet;
mod logs;
mod pods;
mod tally;

use crate::programs;
use crate::report::{Cell, Report, Table};
use anyhow::{Context, bail};
use command_cost::Cost;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A minute instead of many: 128 MiB instead of 1 GiB, a round instead of five, a tenth of the day
    #[arg(long)]
    quick: bool,
    /// Container logs instead: the tail of 200 files that grow and are rotated
    #[arg(long)]
    pods: bool,
    /// Disk writes of container logs instead: a day whose archives take 1 GB, in about six minutes
    /// (needs libfaketime)
    #[arg(long, conflicts_with = "pods")]
    day: bool,
    /// Rate at which all containers write together, in MB a second
    #[arg(long, value_name = "MB", default_value_t = 20)]
    rate: u32,
    /// Measure how the cost grows with the logs, up to this many GiB
    #[arg(long, value_name = "GIB", default_value_t = 8)]
    growth: u64,
    /// The release binary
    #[arg(long, value_name = "PATH", default_value = "target/release/logcd")]
    logcd: PathBuf,
    /// Directory for the generated logs, which take twice their size
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    dir: PathBuf,
}

const IDLE_FILES: u32 = 1000;
/// Bytes that are appended while everything else grows.
const NEWS: u64 = 10 << 20;

/// A pipe of tar through a compressor, and the flags of logcd for the same job.
#[derive(Clone, Copy)]
struct Contest {
    peer: &'static str,
    /// The program that must be installed on this host.
    program: &'static str,
    pipe: &'static str,
    flags: &'static [&'static str],
}

const TOY: Contest = Contest { peer: "tar czf", program: "gzip", pipe: "gzip -6", flags: &[] };
const CONTESTS: [Contest; 4] = [
    TOY,
    Contest { peer: "tar, pigz -p2", program: "pigz", pipe: "pigz -6 -p2", flags: &[] },
    Contest { peer: "tar, zstd -3 -T2", program: "zstd", pipe: "zstd -q -3 -T2", flags: &["--zstd"] },
    // Machine code for one family of processors: a reference, next to the level whose archives are as small.
    Contest { peer: "tar, igzip -1", program: "igzip", pipe: "igzip -1", flags: &["--level=2"] },
];

struct Site<'a> {
    options: &'a Options,
    base: &'a Path,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.logcd.exists() {
        bail!("{} is not there: cargo build --release -p logcd", options.logcd.display());
    }
    let base = tempfile::Builder::new().prefix("bench-logcd-").tempdir_in(&options.dir)?;
    if options.pods {
        return pods::run(options, base.path());
    }
    if options.day {
        return day::run(options, base.path());
    }
    let site = Site { options, base: base.path() };
    let mebibytes: u64 = if options.quick { 128 } else { 1024 };
    progress(&format!("making {mebibytes} MiB in {} logs", logs::FILES));
    logs::make(&site.logs(), mebibytes << 20)?;
    let rounds = if options.quick { 1 } else { 5 };
    let mut report = Report::new("logcd", "a directory of logs in one archive");
    report.note(&format!(
        "{mebibytes} MiB in {} logs, {} processors, rounds: {rounds}; logcd with process start and index; × less: than what \
         stands before it",
        logs::FILES,
        processors()
    ));
    let (there, missing): (Vec<Contest>, Vec<Contest>) =
        CONTESTS.into_iter().partition(|contest| programs::find(contest.program).is_some());
    for Contest { program, .. } in missing {
        report.note(&format!("without {program}: tests/bench/peers fetches it"));
    }
    report.add(site.cold(&there, rounds)?);
    report.add(site.warm(rounds)?);
    report.add(site.idle(rounds)?);
    if !options.quick && options.growth > 0 {
        report.add(site.growth(rounds)?);
    }
    report.finish()
}

fn table(title: &str) -> Table {
    Table::new(title, &["CPU s", "s", "peak MiB", "MiB written", "archive", "× less CPU", "× less time"])
}

impl Site<'_> {
    fn logs(&self) -> PathBuf {
        self.base.join("logs")
    }

    fn out(&self) -> PathBuf {
        self.base.join("out")
    }

    /// Runs one cycle, process start and index included.
    fn logcd(&self, flags: &[&str]) -> anyhow::Result<Cost> {
        let mut command = Command::new(&self.options.logcd);
        command.arg("--dir").arg(self.logs()).arg("--out").arg(self.out());
        command.args(["--once", "--prefix=logs", "--log-level=error", "--admin=none"]).args(flags);
        command_cost::of(&mut command)
    }

    fn tar(&self, contest: &Contest) -> anyhow::Result<Cost> {
        let mut command = programs::shell();
        let script = format!("cd \"$1\" && tar cf - logs | {} > peer", contest.pipe);
        command.args(["-c", &script, "sh"]).arg(self.base);
        command_cost::of(&mut command)
    }

    fn cold(&self, contests: &[Contest], rounds: usize) -> anyhow::Result<Table> {
        let mut results = vec![(Vec::new(), Vec::new(), 0.0); contests.len()];
        for round in 0..rounds {
            for (contest, (theirs, ours, larger)) in contests.iter().zip(&mut results) {
                progress(&format!("everything new: {}, round {} of {rounds}", contest.peer, round + 1));
                theirs.push(self.tar(contest)?);
                self.empty_out()?;
                ours.push(self.logcd(&[&["--threads=2"], contest.flags].concat())?);
                *larger = bytes(&self.archive()?)? / bytes(&self.base.join("peer"))? * 100.0 - 100.0;
            }
        }
        let mut table = table("everything new");
        for (contest, (theirs, ours, larger)) in contests.iter().zip(&results) {
            let theirs = command_cost::median(theirs)?;
            row(&mut table, contest.peer, theirs, "", None);
            let name = ["logcd", contest.flags.join(" ").as_str()].join(" ");
            let ours = command_cost::median(ours)?;
            row(&mut table, name.trim_end(), ours, &format!("{larger:+.2} %"), Some(theirs));
        }
        Ok(table)
    }

    fn archive(&self) -> anyhow::Result<PathBuf> {
        let archive = std::fs::read_dir(self.out())?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with("all-logs-"));
        Ok(archive.context("logcd made no archive")?.path())
    }

    fn warm(&self, rounds: usize) -> anyhow::Result<Table> {
        self.empty_out()?;
        self.logcd(&[])?;
        let (mut theirs, mut appended, mut nothing, mut no_index) = (vec![], vec![], vec![], vec![]);
        for round in 0..rounds {
            progress(&format!("{} MiB appended: round {} of {rounds}", NEWS >> 20, round + 1));
            logs::append(&self.logs(), NEWS, round as u64)?;
            appended.push(self.logcd(&[])?);
            nothing.push(self.logcd(&[])?);
            theirs.push(self.tar(&TOY)?);
        }
        // In a separate loop, because an archive that was rebuilt without an index is not like the others.
        for round in 0..rounds {
            progress(&format!("without its index: round {} of {rounds}", round + 1));
            let archive = self.archive()?;
            let name = archive.file_name().context("no name")?.to_string_lossy().into_owned();
            std::fs::remove_file(archive.with_file_name(format!(".{name}.index")))?;
            no_index.push(self.logcd(&[])?);
        }
        let mut table = table(&format!("{} MiB appended", NEWS >> 20));
        let peer = command_cost::median(&theirs)?;
        row(&mut table, TOY.peer, peer, "", None);
        let ours =
            [("logcd", appended), ("logcd, nothing appended", nothing), ("logcd, its index lost", no_index)];
        for (name, rounds) in ours {
            row(&mut table, name, command_cost::median(&rounds)?, "", Some(peer));
        }
        Ok(table)
    }

    fn idle(&self, rounds: usize) -> anyhow::Result<Table> {
        self.empty_out()?;
        self.empty_logs()?;
        for number in 0..IDLE_FILES {
            std::fs::write(self.logs().join(format!("idle-{number:04}.log")), "a line\n")?;
        }
        // Run twice, so that no file is new enough to need another read.
        self.logcd(&[])?;
        self.logcd(&[])?;
        let ours = (0..rounds).map(|_| self.logcd(&[])).collect::<anyhow::Result<Vec<_>>>()?;
        let mut table = table(&format!("{IDLE_FILES} files, no news"));
        row(&mut table, "logcd", command_cost::median(&ours)?, "", None);
        Ok(table)
    }

    /// Appends the same amount to more and more old content.
    fn growth(&self, rounds: usize) -> anyhow::Result<Table> {
        let mut table = table(&format!("{} MiB appended to what is there already", NEWS >> 20));
        let mut mebibytes = 128;
        while mebibytes <= self.options.growth << 10 {
            self.empty_out()?;
            self.empty_logs()?;
            progress(&format!("making {mebibytes} MiB"));
            logs::make(&self.logs(), mebibytes << 20)?;
            self.logcd(&["--threads=2"])?;
            let mut ours = Vec::new();
            for round in 0..rounds {
                progress(&format!("beside {mebibytes} MiB: round {} of {rounds}", round + 1));
                logs::append(&self.logs(), NEWS, round as u64)?;
                ours.push(self.logcd(&[])?);
            }
            row(&mut table, &format!("logcd, {mebibytes} MiB"), command_cost::median(&ours)?, "", None);
            mebibytes *= 4;
        }
        Ok(table)
    }

    fn empty_logs(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.logs())?;
        Ok(std::fs::create_dir(self.logs())?)
    }

    fn empty_out(&self) -> anyhow::Result<()> {
        if self.out().exists() {
            std::fs::remove_dir_all(self.out())?;
        }
        Ok(std::fs::create_dir(self.out())?)
    }
}

fn row(table: &mut Table, name: &str, cost: Cost, archive: &str, against: Option<Cost>) {
    let Cost { seconds, cpu_seconds, peak_mib, written_mib } = cost;
    let ratio =
        |of: fn(&Cost) -> f64| against.map_or(Cell::Empty, |peer| Cell::number(of(&peer) / of(&cost), 1));
    table.row(
        name,
        vec![
            Cell::number(cpu_seconds, 3),
            Cell::number(seconds, 3),
            Cell::number(peak_mib, 1),
            Cell::number(written_mib, 1),
            Cell::Text(archive.to_owned()),
            ratio(|cost| cost.cpu_seconds),
            ratio(|cost| cost.seconds),
        ],
    );
}

fn bytes(path: &Path) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(std::fs::metadata(path)?.len())?))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
