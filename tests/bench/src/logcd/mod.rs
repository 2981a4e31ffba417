//! logcd beside GNU tar with gzip, pigz and zstd: everything new, a little new, and nothing.

mod command_cost;
mod logs;

use anyhow::{Context, bail};
use command_cost::Cost;
use std::fmt::Write as _;
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
    let mut report = format!("\n{mebibytes} MiB in {} logs, {} processors\n\n", logs::FILES, processors());
    report += "| everything new | s | CPU s | peak MiB | archive | logcd: × less CPU, × less time |\n|---|---|---|---|---|---|\n";
    let (there, missing): (Vec<Contest>, Vec<Contest>) =
        CONTESTS.into_iter().partition(|contest| is_there(contest.program));
    for contest in &there {
        site.cold(contest, &mut report)?;
    }
    for Contest { program, .. } in missing {
        writeln!(report, "\nwithout {program}, which is not installed\n")?;
    }
    writeln!(
        report,
        "\n| 1 % appended | s | CPU s | peak MiB | | × less CPU, × less time |\n|---|---|---|---|---|---|"
    )?;
    site.warm(appended, &mut report)?;
    writeln!(
        report,
        "\n| {IDLE_FILES} files, no news | s | CPU s | peak MiB | | |\n|---|---|---|---|---|---|"
    )?;
    site.idle(&mut report)?;
    write!(std::io::stdout(), "{report}")?;
    Ok(())
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

    fn cold(&self, contest: &Contest, report: &mut String) -> anyhow::Result<()> {
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
        row(report, contest.peer, peer, "", None)?;
        let flags = contest.flags.join(" ");
        row(report, &format!("logcd {flags}"), ours, &format!("{larger:+.2} %"), Some(peer))
    }

    fn warm(&self, appended: u64, report: &mut String) -> anyhow::Result<()> {
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
        row(report, TOY.peer, peer, "", None)?;
        row(report, "logcd", rounds[rounds.len() / 2], "", Some(peer))?;
        row(report, "logcd, nothing appended", self.logcd(&[])?, "", Some(peer))
    }

    fn idle(&self, report: &mut String) -> anyhow::Result<()> {
        self.empty_out()?;
        std::fs::remove_dir_all(self.logs())?;
        std::fs::create_dir(self.logs())?;
        for number in 0..IDLE_FILES {
            std::fs::write(self.logs().join(format!("idle-{number:04}.log")), "a line\n")?;
        }
        // Twice, so that no file is so new that it has to be read again.
        self.logcd(&[])?;
        self.logcd(&[])?;
        row(report, "logcd", self.logcd(&[])?, "", None)
    }

    fn empty_out(&self) -> anyhow::Result<()> {
        if self.out().exists() {
            std::fs::remove_dir_all(self.out())?;
        }
        Ok(std::fs::create_dir(self.out())?)
    }
}

fn row(
    report: &mut String,
    name: &str,
    cost: Cost,
    archive: &str,
    against: Option<Cost>,
) -> anyhow::Result<()> {
    let ratios = against.map_or(String::new(), |peer| {
        format!("{:.1}, {:.1}", peer.cpu_seconds / cost.cpu_seconds, peer.seconds / cost.seconds)
    });
    let Cost { seconds, cpu_seconds, peak_mib } = cost;
    Ok(writeln!(
        report,
        "| {name} | {seconds:.3} | {cpu_seconds:.3} | {peak_mib:.1} | {archive} | {ratios} |"
    )?)
}

fn bytes(path: &Path) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(std::fs::metadata(path)?.len())?))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn is_there(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
