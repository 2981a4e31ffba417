//! queued beside Redis, beanstalkd and NATS JetStream, at equal durability; and a million items that wait.

mod backlog;
mod client;
mod server;

use crate::process::Contender;
use crate::report::{Cell, Report, Table};
use anyhow::bail;
use clap::ValueEnum;
use client::Client;
use server::{Keeping, Peer};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Half a minute instead of many; durable servers only
    #[arg(long)]
    quick: bool,
    /// How many clients at once, one table row each
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<u16>,
    /// Only what is kept so: all three unless given
    #[arg(long, value_enum)]
    only: Option<Keeping>,
    /// The release binary
    #[arg(long, value_name = "PATH", default_value = "target/release/queued")]
    queued: PathBuf,
    /// How many items wait at the restart, in thousands; 0 leaves that out
    #[arg(long, value_name = "N", default_value_t = 1000)]
    thousands: u16,
}

const BODY: [u8; 100] = [b'x'; 100];

/// What one round gave.
#[derive(Clone, Copy, Debug)]
struct Round {
    push: Pace,
    cycle: Pace,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    per_second: f64,
    /// Of the server, for one of them.
    cpu_us: f64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.queued.exists() {
        bail!("{} is not there: cargo build --release -p queued", options.queued.display());
    }
    // The peers are started in directories of their own.
    let queued = options.queued.canonicalize()?;
    let (rounds, phase) = match options.quick {
        true => (1, Duration::from_millis(500)),
        false => (5, Duration::from_secs(1)),
    };
    let kinds = match (options.only, options.quick) {
        (Some(only), _) => vec![only],
        (None, true) => vec![Keeping::Durable],
        (None, false) => Keeping::value_variants().to_vec(),
    };
    let mut report = Report::new("queued", "work items over one connection each");
    report.note(&format!("{rounds} rounds of {} ms; a cycle is a lease and its ack", phase.as_millis()));
    for keeping in kinds {
        let (there, missing): (Vec<Peer>, Vec<Peer>) =
            Peer::ALL.into_iter().partition(|peer| peer.is_there(&queued, keeping));
        for peer in missing {
            report.note(&format!("{keeping:?}: without {}: {}", peer.name(), peer.needs(keeping)));
        }
        for &clients in &options.clients {
            report.add(compare(&there, keeping, clients, rounds, phase, &queued)?);
        }
    }
    if options.thousands > 0 {
        report.note(&backlog::report(&queued, u32::from(options.thousands))?);
    }
    report.finish()
}

fn compare(
    peers: &[Peer],
    keeping: Keeping,
    clients: u16,
    rounds: usize,
    phase: Duration,
    queued: &Path,
) -> anyhow::Result<Table> {
    let mut results = vec![Vec::new(); peers.len()];
    for round in 0..rounds {
        let _ =
            writeln!(std::io::stderr(), "{keeping:?}, {clients} clients: round {} of {rounds}", round + 1);
        for (peer, results) in peers.iter().zip(&mut results) {
            let directory = tempfile::tempdir()?;
            let server = peer.start(keeping, directory.path(), queued)?;
            let push = measure(*peer, keeping, &server, clients, phase, true)?;
            let cycle = measure(*peer, keeping, &server, clients, phase, false)?;
            results.push(Round { push, cycle });
        }
    }
    let medians: Vec<(Peer, Round)> = peers.iter().copied().zip(results.iter().map(|r| median(r))).collect();
    let best = |figure: fn(&Round) -> f64| {
        let peers = medians.iter().filter(|(peer, _)| *peer != Peer::Queued);
        peers.map(|(_, round)| figure(round)).fold(f64::NAN, f64::max)
    };
    let (best_push, best_cycle) = (best(|r| r.push.per_second), best(|r| r.cycle.per_second));
    let mut table = Table::new(
        &format!("{}, clients: {clients}", keeping.sentence()),
        &[
            "pushes/s",
            "cycles/s",
            "CPU µs a push",
            "CPU µs a cycle",
            "pushes × best peer",
            "cycles × best peer",
        ],
    );
    for (peer, Round { push, cycle }) in &medians {
        let ratio = |ours: f64, best: f64| match peer {
            Peer::Queued => Cell::number(ours / best, 2),
            _ => Cell::Empty,
        };
        table.row(
            peer.name(),
            vec![
                Cell::number(push.per_second, 0),
                Cell::number(cycle.per_second, 0),
                Cell::number(push.cpu_us, 0),
                Cell::number(cycle.cpu_us, 0),
                ratio(push.per_second, best_push),
                ratio(cycle.per_second, best_cycle),
            ],
        );
    }
    Ok(table)
}

/// The pace in the middle of each phase, each with what it cost in that round.
fn median(rounds: &[Round]) -> Round {
    let middle = |pace: fn(&Round) -> Pace| {
        let mut paces: Vec<Pace> = rounds.iter().map(pace).collect();
        paces.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        paces[paces.len() / 2]
    };
    Round { push: middle(|round| round.push), cycle: middle(|round| round.cycle) }
}

/// All connections on one thread, so that the load costs every server the same.
#[allow(clippy::too_many_arguments, reason = "one phase's settings")]
fn measure(
    peer: Peer,
    keeping: Keeping,
    server: &Contender,
    clients: u16,
    phase: Duration,
    push: bool,
) -> anyhow::Result<Pace> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = server.port;
    runtime.block_on(async {
        let mut connected = Vec::new();
        for number in 0..clients {
            connected.push(Client::connect(peer, keeping, port, number).await?);
        }
        let before = server.cost()?;
        let began = Instant::now();
        let until = began + phase;
        let tasks: Vec<_> = connected
            .into_iter()
            .map(|mut client| {
                tokio::spawn(async move {
                    let mut done = 0u32;
                    while Instant::now() < until {
                        match push {
                            true => client.push().await?,
                            false if !client.cycle().await? => break,
                            false => {}
                        }
                        done += 1;
                    }
                    anyhow::Ok(done)
                })
            })
            .collect();
        let mut total = 0.0;
        for task in tasks {
            total += f64::from(task.await??);
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu_seconds = server.cost()?.cpu_seconds - before.cpu_seconds;
        Ok(Pace { per_second: total / seconds, cpu_us: cpu_seconds * 1e6 / total })
    })
}
