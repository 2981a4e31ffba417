//! logd against the bare loop, which is the limit, and against other servers that take lines. Measures CPU,
//! pace, memory, and the fate of every line.

pub mod bare_loop;
mod latency;
mod lines;
mod server;

use crate::rank::median;
use crate::report::{Cell, Report, Table};
use anyhow::bail;
use lines::{Load, Outcome};
use server::Server;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A minute or two instead of ten
    #[arg(long)]
    quick: bool,
    /// The release binary
    #[arg(long, value_name = "PATH", default_value = "target/release/logd")]
    logd: PathBuf,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    cpu_seconds: f64,
    seconds: f64,
    peak_mib: f64,
    outcome: Outcome,
}

/// One workload that every server is given.
struct Trial {
    name: String,
    load: Load,
    /// The divisor of the cost, and its unit.
    per: (f64, &'static str),
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.logd.exists() {
        bail!("{} is not there: cargo build --release -p logd", options.logd.display());
    }
    let (there, missing): (Vec<Server>, Vec<Server>) = Server::ALL.into_iter().partition(|s| s.is_there());
    let synced: Vec<Server> = Server::ALWAYS_SYNCED.into_iter().filter(|s| s.is_there()).collect();
    let rounds = if options.quick { 1 } else { 5 };
    let mut report = Report::new("logd", "lines over TCP into one file");
    for server in missing {
        let program = server.program().unwrap_or_default();
        report.note(&format!(
            "without {}: {program} is not there; tests/bench/peers fetches it",
            server.name()
        ));
    }
    report.note(
        "CPU is the server's with all its processes; × bare loop: how much more than reading, cutting at the last newline \
         and writing takes; the last column: what of the lines that were sent is not in the file as it was sent.",
    );
    for trial in trials(options.quick)? {
        report.add(compare(&trial, &there, rounds, &options.logd)?);
    }
    report.add(compare(&synced_trial(options.quick)?, &synced, rounds, &options.logd)?);
    let megabytes = if options.quick { 40 } else { 100 };
    report.add(latency::compare(&there, megabytes, rounds, &options.logd)?);
    report.finish()
}

/// Several concurrent connections that send about a gigabyte.
fn streams(
    name: &str,
    connections: usize,
    line_bytes: usize,
    write_bytes: usize,
    megabytes: usize,
) -> anyhow::Result<Trial> {
    let load = Load::streams(connections, line_bytes, write_bytes, megabytes * 1_000_000);
    let gigabytes = f64::from(u32::try_from(load.bytes())?) / 1e9;
    Ok(Trial { name: format!("{name}, connections: {connections}"), load, per: (gigabytes, "GB") })
}

fn synced_trial(quick: bool) -> anyhow::Result<Trial> {
    streams("Always synced, 200-byte lines in writes of 16 KB", 8, 200, 16_000, if quick { 5 } else { 20 })
}

fn trials(quick: bool) -> anyhow::Result<Vec<Trial>> {
    let megabytes = if quick { 60 } else { 300 };
    let mut trials = Vec::new();
    for connections in [1, 8, 64] {
        trials.push(streams("200-byte lines in writes of 16 KB", connections, 200, 16_000, megabytes)?);
    }
    for connections in [1, 8, 64] {
        trials.push(streams("200-byte lines, a write each", connections, 200, 1, megabytes / 4)?);
    }
    trials.push(streams("2 KB lines in writes of 16 KB", 8, 2000, 16_000, megabytes)?);
    let visits = if quick { 2000 } else { 20_000 };
    let load = Load::visits(visits, 32);
    let per = (f64::from(u32::try_from(visits)?) / 1000.0, "1,000 connections");
    trials.push(Trial { name: "a connection for each line, 32 at a time".to_owned(), load, per });
    Ok(trials)
}

fn compare(trial: &Trial, servers: &[Server], rounds: usize, logd: &Path) -> anyhow::Result<Table> {
    let mut results = vec![Vec::new(); servers.len()];
    for round in 0..rounds {
        for (server, results) in servers.iter().zip(&mut results) {
            let _ = writeln!(
                std::io::stderr(),
                "{}: {}, round {} of {rounds}",
                trial.name,
                server.name(),
                round + 1
            );
            let round = measure(*server, &trial.load, logd)?;
            if (server.is_ours() || *server == Server::BareLoop) && round.outcome != Outcome::default() {
                bail!("{}, {}: {:?}", trial.name, server.name(), round.outcome);
            }
            results.push(round);
        }
    }
    let medians = results.iter().map(|rounds| median(rounds, |round| round.cpu_seconds));
    let medians: Vec<Round> = medians.collect::<anyhow::Result<_>>()?;
    let limit = servers.iter().zip(&medians).find(|(server, _)| **server == Server::BareLoop);
    let limit = limit.map_or(f64::NAN, |(_, round)| round.cpu_seconds);
    let peers = servers.iter().zip(&medians).filter(|(server, _)| server.is_peer());
    let best = peers.map(|(_, round)| round.cpu_seconds).fold(f64::NAN, f64::min);
    let (amount, unit) = trial.per;
    let mut table = Table::new(
        &trial.name,
        &[&format!("CPU s per {unit}"), "× bare loop", "best peer ×", "MB/s", "peak MiB", "not as sent"],
    );
    let megabytes = f64::from(u32::try_from(trial.load.bytes())?) / 1e6;
    for ((server, round), rounds) in servers.iter().zip(&medians).zip(&results) {
        let Round { cpu_seconds, seconds, peak_mib, .. } = *round;
        let ahead = if server.is_ours() { Cell::number(best / cpu_seconds, 1) } else { Cell::Empty };
        // The outcomes of all rounds count: a fault in one round of five matters.
        let outcomes: Vec<Outcome> = rounds.iter().map(|round: &Round| round.outcome).collect();
        table.row(
            server.name(),
            vec![
                Cell::number(cpu_seconds / amount, 2),
                Cell::number(cpu_seconds / limit, 2),
                ahead,
                Cell::number(megabytes / seconds, 0),
                Cell::number(peak_mib, 1),
                Cell::Text(say(&outcomes)),
            ],
        );
    }
    Ok(table)
}

fn measure(server: Server, load: &Load, logd: &Path) -> anyhow::Result<Round> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("node_log");
    let running = server.start(logd, directory.path(), &file)?;
    let began = Instant::now();
    let (seconds, cost) = running.cost_of(|| {
        load.send(running.port);
        load.settle(&file);
        began.elapsed().as_secs_f64()
    })?;
    let outcome = load.outcome(&file)?;
    Ok(Round { cpu_seconds: cost.cpu_seconds, seconds, peak_mib: cost.peak_mib, outcome })
}

fn say(outcomes: &[Outcome]) -> String {
    let most = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).max().unwrap_or(0);
    let counts = [
        (most(|o| o.lost), "lost"),
        (most(|o| o.torn), "torn"),
        (most(|o| o.repeated), "repeated"),
        (most(|o| o.late), "out of order"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}
