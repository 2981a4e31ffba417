//! logcd against rsyslog and syslog-ng on container logs: 200 files that grow and are rotated as by kubelet.

use super::command_cost::{self, Cost};
use super::kubelet::{self, Plan, Written};
use super::tally::{self, Tally};
use super::{Options, progress};
use crate::disk::bytes_below;
use crate::report::{Cell, Report, Table};
use crate::{programs, syslog};
use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A contender that has used nearly no CPU time for this long has read everything.
const QUIET: Duration = Duration::from_secs(2);
/// A contender that is not quiet by then never will be.
const QUIET_WITHIN: Duration = Duration::from_secs(120);
/// CPU time within `QUIET` that still counts as nothing.
const IDLE_SECONDS: f64 = 0.02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Rsyslog,
    RsyslogGzip,
    SyslogNg,
    Logcd,
}

/// The results of one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    cost: Cost,
    out_mib: f64,
    /// Size of the lines that the contender has kept.
    kept_gb: f64,
    tally: Tally,
}

impl Tail {
    /// All contenders; logcd is last.
    const ALL: [Tail; 4] = [Tail::Rsyslog, Tail::RsyslogGzip, Tail::SyslogNg, Tail::Logcd];

    fn name(self) -> &'static str {
        match self {
            Tail::Rsyslog => "rsyslog imfile, plain",
            Tail::RsyslogGzip => "rsyslog imfile, gzip",
            Tail::SyslogNg => "syslog-ng wildcard-file, plain",
            Tail::Logcd => "logcd --pods",
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Tail::Rsyslog | Tail::RsyslogGzip => Some("rsyslogd"),
            Tail::SyslogNg => Some("syslog-ng"),
            Tail::Logcd => None,
        }
    }

    fn command(
        self,
        options: &Options,
        directory: &Path,
        root: &Path,
        out: &Path,
    ) -> anyhow::Result<Command> {
        match self {
            Tail::Rsyslog => rsyslog("", directory, root, out),
            // Flushed as a whole at the end, which costs less than a flush for each batch.
            Tail::RsyslogGzip => rsyslog(r#"zipLevel="6" veryRobustZip="off""#, directory, root, out),
            Tail::SyslogNg => syslog_ng(directory, root, out),
            Tail::Logcd => {
                let mut command = Command::new(options.logcd.canonicalize()?);
                command.args(["--dir", "none", "--admin", "none", "--log-level", "error"]);
                command.arg("--pods").arg(root).arg("--pods-out").arg(out);
                Ok(command)
            }
        }
    }

    /// Builds the command that prints all lines that were kept.
    fn reader(self, out: &Path) -> Command {
        let script = match self {
            Tail::Rsyslog | Tail::SyslogNg => "cat \"$1\"/lines",
            Tail::RsyslogGzip => "gzip -dc \"$1\"/lines",
            Tail::Logcd => tally::PRINT_ARCHIVES,
        };
        tally::reader(script, out)
    }
}

fn rsyslog(of_output: &str, directory: &Path, root: &Path, out: &Path) -> anyhow::Result<Command> {
    let config = format!(
        r#"global(workDirectory="{directory}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
module(load="imfile" mode="inotify")
template(name="raw" type="string" string="%msg%\n")
ruleset(name="lines") {{ action(type="omfile" file="{out}/lines" template="raw" {of_output}) }}
input(type="imfile" file="{root}/*/*/*.log" tag="pods" ruleset="lines")
"#,
        directory = directory.display(),
        root = root.display(),
        out = out.display(),
    );
    syslog::rsyslog(&config, directory)
}

fn syslog_ng(directory: &Path, root: &Path, out: &Path) -> anyhow::Result<Command> {
    let config = format!(
        r#"@version: 3.38
options {{ keep-hostname(yes); log-fifo-size(100000); }};
source lines {{ wildcard-file(base-dir("{root}") filename-pattern("*.log") recursive(yes) max-files(1000) flags(no-parse) log-msg-size(65536) log-iw-size(100000)); }};
destination lines {{ file("{out}/lines" template("$MSG\n")); }};
log {{ source(lines); destination(lines); flags(flow-control); }};
"#,
        root = root.display(),
        out = out.display(),
    );
    syslog::syslog_ng(&config, directory)
}

pub fn run(options: &Options, base: &Path) -> anyhow::Result<()> {
    let (rounds, plan) = match options.quick {
        true => (1, Plan { bytes: 256 << 20, bytes_a_second: 0, rotate_bytes: 2 << 20 }),
        false => (3, Plan { bytes: 1 << 30, bytes_a_second: 0, rotate_bytes: 10 << 20 }),
    };
    let plan = Plan { bytes_a_second: u64::from(options.rate) * 1_000_000, ..plan };
    let mut report = Report::new("logcd-pods", "the tail of container logs that grow and are rotated");
    let (there, missing): (Vec<Tail>, Vec<Tail>) = Tail::ALL
        .into_iter()
        .partition(|tail| tail.program().is_none_or(|name| programs::find(name).is_some()));
    for tail in missing {
        report.note(&format!("without {}: tests/bench/peers fetches it", tail.name()));
    }
    let mut results = vec![Vec::new(); there.len()];
    let mut rotations = 0;
    for round in 0..rounds {
        for turn in 0..there.len() {
            let place = (round + turn) % there.len();
            progress(&format!("{}: round {} of {rounds}", there[place].name(), round + 1));
            let directory = base.join(format!("{round}-{turn}"));
            let (result, written) = one_round(there[place], options, &directory, plan)?;
            rotations = written.rotations;
            results[place].push(result);
            std::fs::remove_dir_all(directory)?;
        }
    }
    report.note("CPU time is divided by what was kept: a contender that loses lines has less to do");
    report.note(&format!(
        "{} MiB in {} logs at {} MB/s, {rotations} rotations at {} MiB, rounds: {rounds}; each line is one write, as by a container \
         runtime; lines are of all rounds",
        plan.bytes >> 20,
        kubelet::CONTAINERS,
        options.rate,
        plan.rotate_bytes >> 20
    ));
    report.add(table(&there, &results)?);
    report.finish()
}

fn table(there: &[Tail], results: &[Vec<Round>]) -> anyhow::Result<Table> {
    let mut table = Table::new(
        "container logs",
        &[
            "CPU s a GB kept",
            "peak MiB",
            "MiB kept",
            "bytes written a byte kept",
            "lines lost",
            "lines twice",
            "lines torn",
            "× less CPU than the best peer",
        ],
    );
    let cpu_of_a_gb = |round: &Round| round.cost.cpu_seconds / round.kept_gb;
    let medians = results
        .iter()
        .map(|rounds| crate::rank::median(rounds, cpu_of_a_gb))
        .collect::<anyhow::Result<Vec<Round>>>()?;
    let peers = there.iter().zip(&medians).filter(|(tail, _)| **tail != Tail::Logcd);
    let best = peers.map(|(_, round)| cpu_of_a_gb(round)).fold(f64::NAN, f64::min);
    for ((tail, median), rounds) in there.iter().zip(&medians).zip(results) {
        let count = |of: fn(&Tally) -> usize| {
            Cell::Text(rounds.iter().map(|round| of(&round.tally)).sum::<usize>().to_string())
        };
        table.row(
            tail.name(),
            vec![
                Cell::number(cpu_of_a_gb(median), 2),
                Cell::number(median.cost.peak_mib, 1),
                Cell::number(median.out_mib, 1),
                Cell::number(median.cost.written_mib / median.out_mib, 2),
                count(|tally| tally.lost),
                count(|tally| tally.repeated),
                count(|tally| tally.torn),
                match tail {
                    Tail::Logcd => Cell::number(best / cpu_of_a_gb(median), 2),
                    _ => Cell::Empty,
                },
            ],
        );
    }
    Ok(table)
}

fn one_round(
    tail: Tail,
    options: &Options,
    directory: &Path,
    plan: Plan,
) -> anyhow::Result<(Round, Written)> {
    let (root, out) = (directory.join("pods"), directory.join("out"));
    std::fs::create_dir_all(&out)?;
    kubelet::make(&root);
    let mut command = tail.command(options, directory, &root, &out)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut running =
        ContenderProcess(Some(command.spawn().with_context(|| format!("cannot start {command:?}"))?));
    // Once the contender is quiet, it has opened every log.
    running.wait_until_quiet(tail)?;
    let written = kubelet::write(&root, plan)?;
    running.wait_until_quiet(tail)?;
    let cost = running.end(began).with_context(|| tail.name())?;
    let tally = Tally::of(&mut tail.reader(&out), &written.lines)?;
    let count = |number: u64| Ok::<_, anyhow::Error>(f64::from(u32::try_from(number)?));
    let lines = written.lines.iter().sum::<usize>();
    let kept = count(lines.saturating_sub(tally.lost) as u64)? / count(lines as u64)?;
    let round = Round {
        cost,
        out_mib: bytes_below(&out)? / f64::from(1 << 20),
        kept_gb: count(written.bytes >> 10)? * 1024.0 / 1e9 * kept,
        tally,
    };
    Ok((round, written))
}

/// A contender, which is killed if its round fails.
struct ContenderProcess(Option<Child>);

impl ContenderProcess {
    fn pid(&self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.0.as_ref().context("ended")?.id())?)
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(crate::process::cost_of_process(u32::try_from(self.pid()?)?)?.cpu_seconds)
    }

    fn wait_until_quiet(&mut self, tail: Tail) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut before = self.cpu_seconds()?;
        while began.elapsed() < QUIET_WITHIN {
            std::thread::park_timeout(QUIET);
            if let Some(status) = self.0.as_mut().context("ended")?.try_wait()? {
                bail!("{} ended: {status}", tail.name());
            }
            let now = self.cpu_seconds()?;
            if now - before < IDLE_SECONDS {
                return Ok(());
            }
            before = now;
        }
        bail!("{} does not come to an end", tail.name())
    }

    /// Stops the contender as a service manager does.
    fn end(mut self, began: Instant) -> anyhow::Result<Cost> {
        kill(Pid::from_raw(self.pid()?), Signal::SIGTERM)?;
        command_cost::of_ended(&self.0.take().context("ended")?, began)
    }
}

impl Drop for ContenderProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
