//! logcd beside GNU tar with gzip, pigz and zstd: everything new, a little new, and nothing.

mod command_cost;
mod logs;

use crate::programs;
use crate::report::{Cell, Report, Table};
use anyhow::{Context, bail};
use command_cost::Cost;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// 128 MiB instead of 1 GiB
    #[arg(long)]
    quick: bool,
    /// The release binary
    #[arg(long, value_name = "PATH", default_value = "target/release/logcd")]
    logcd: PathBuf,
    /// Where the logs are made, which take twice their size there
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    dir: PathBuf,
}

const ROUNDS: u64 = 3;
const IDLE_FILES: u32 = 1000;

/// What logcd does in the place of a pipe through a compressor.
#[derive(Clone, Copy)]
struct Contest {
    peer: &'static str,
    /// The program to be found on this host.
    program: &'static str,
    pipe: &'static str,
    flags: &'static [&'static str],
}

const TOY: Contest = Contest { peer: "tar czf", program: "gzip", pipe: "gzip -6", flags: &[] };
const CONTESTS: [Contest; 3] = [
    TOY,
    Contest { peer: "tar, pigz -p2", program: "pigz", pipe: "pigz -6 -p2", flags: &[] },
    Contest { peer: "tar, zstd -3 -T2", program: "zstd", pipe: "zstd -q -3 -T2", flags: &["--zstd"] },
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
    let site = Site { options, base: base.path() };
    let mebibytes: u64 = if options.quick { 128 } else { 1024 };
    progress(&format!("making {mebibytes} MiB in {} logs", logs::FILES));
    logs::make(&site.logs(), mebibytes << 20)?;
    let appended = (mebibytes << 20) / 100;
    let mut report = Report::new("logcd", "a directory of logs in one archive");
    report.note(&format!(
        "{mebibytes} MiB in {} logs, {} processors; logcd with process start and index",
        logs::FILES,
        processors()
    ));
    let (there, missing): (Vec<Contest>, Vec<Contest>) =
        CONTESTS.into_iter().partition(|contest| programs::find(contest.program).is_some());
    for Contest { program, .. } in missing {
        report.note(&format!("without {program}, which is not installed"));
    }
    let mut new = table("everything new");
    for contest in &there {
        site.cold(contest, &mut new)?;
    }
    report.add(new);
    report.add(site.warm(appended)?);
    report.add(site.idle()?);
    report.finish()
}

fn table(title: &str) -> Table {
    Table::new(title, &["CPU s", "s", "peak MiB", "archive", "× less CPU", "× less time"])
}

impl Site<'_> {
    fn logs(&self) -> PathBuf {
        self.base.join("logs")
    }

    fn out(&self) -> PathBuf {
        self.base.join("out")
    }

    /// One cycle, process start and index included.
    fn logcd(&self, flags: &[&str]) -> anyhow::Result<Cost> {
        let mut command = Command::new(&self.options.logcd);
        command.arg("--dir").arg(self.logs()).arg("--out").arg(self.out());
        command.args(["--once", "--prefix=logs", "--log-level=error", "--admin=none"]).args(flags);
        command_cost::of(&mut command)
    }

    fn tar(&self, pipe: &str) -> anyhow::Result<Cost> {
        let mut command = Command::new("sh");
        let script = format!("cd \"$1\" && tar cf - logs | {pipe} > peer");
        command.args(["-c", &script, "sh"]).arg(self.base);
        command_cost::of(&mut command)
    }

    fn cold(&self, contest: &Contest, table: &mut Table) -> anyhow::Result<()> {
        progress(&format!("everything new: {}", contest.peer));
        let peer = self.tar(contest.pipe)?;
        let peer_bytes = bytes(&self.base.join("peer"))?;
        self.empty_out()?;
        progress("everything new: logcd");
        let ours = self.logcd(&[&["--threads=2"], contest.flags].concat())?;
        let archive = std::fs::read_dir(self.out())?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with("all-logs-"))
            .context("logcd made no archive")?;
        let larger = bytes(&archive.path())? / peer_bytes * 100.0 - 100.0;
        row(table, contest.peer, peer, "", None);
        let name = ["logcd", contest.flags.join(" ").as_str()].join(" ");
        row(table, name.trim_end(), ours, &format!("{larger:+.2} %"), Some(peer));
        Ok(())
    }

    fn warm(&self, appended: u64) -> anyhow::Result<Table> {
        let mut table = table("1 % appended");
        self.empty_out()?;
        self.logcd(&[])?;
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            progress(&format!("1 % appended: round {} of {ROUNDS}", round + 1));
            logs::append(&self.logs(), appended, round)?;
            rounds.push(self.logcd(&[])?);
        }
        rounds.sort_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds));
        let peer = self.tar(TOY.pipe)?;
        row(&mut table, TOY.peer, peer, "", None);
        row(&mut table, "logcd", rounds[rounds.len() / 2], "", Some(peer));
        row(&mut table, "logcd, nothing appended", self.logcd(&[])?, "", Some(peer));
        Ok(table)
    }

    fn idle(&self) -> anyhow::Result<Table> {
        let mut table = table(&format!("{IDLE_FILES} files, no news"));
        self.empty_out()?;
        std::fs::remove_dir_all(self.logs())?;
        std::fs::create_dir(self.logs())?;
        for number in 0..IDLE_FILES {
            std::fs::write(self.logs().join(format!("idle-{number:04}.log")), "a line\n")?;
        }
        // Twice, so that no file is so new that it has to be read again.
        self.logcd(&[])?;
        self.logcd(&[])?;
        row(&mut table, "logcd", self.logcd(&[])?, "", None);
        Ok(table)
    }

    fn empty_out(&self) -> anyhow::Result<()> {
        if self.out().exists() {
            std::fs::remove_dir_all(self.out())?;
        }
        Ok(std::fs::create_dir(self.out())?)
    }
}

fn row(table: &mut Table, name: &str, cost: Cost, archive: &str, against: Option<Cost>) {
    let Cost { seconds, cpu_seconds, peak_mib } = cost;
    let ratio =
        |of: fn(&Cost) -> f64| against.map_or(Cell::Empty, |peer| Cell::number(of(&peer) / of(&cost), 1));
    table.row(
        name,
        vec![
            Cell::number(cpu_seconds, 3),
            Cell::number(seconds, 3),
            Cell::number(peak_mib, 1),
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
