//! queued against Redis, Valkey, beanstalkd and NATS JetStream at equal durability, and with a backlog of a
//! million items.

mod backlog;
mod client;
mod pace;
mod server;

use crate::rank::median;
use crate::report::{Cell, Report, Table};
use anyhow::bail;
use clap::ValueEnum;
use client::Order;
use pace::{Pace, Setting, Work};
use server::{Keeping, Peer};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// A minute instead of many; durable servers only
    #[arg(long)]
    quick: bool,
    /// Numbers of concurrent clients to measure, with items of 100 bytes
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<u16>,
    /// Measure only this durability; all three without this flag
    #[arg(long, value_enum)]
    only: Option<Keeping>,
    /// The release binary
    #[arg(long, value_name = "PATH", default_value = "target/release/queued")]
    queued: PathBuf,
    /// Items that wait at the restart, in thousands; 0 skips this part
    #[arg(long, value_name = "N", default_value_t = 1000)]
    thousands: u16,
}

const SMALL: Order = Order { body_bytes: 100, items: 1 };
const LARGE: Order = Order { body_bytes: 4096, items: 1 };
const MANY: Order = Order { body_bytes: 100, items: 100 };
/// Number of clients in the rounds with large items, and with many items in a request.
const CLIENTS: u16 = 16;

const WORKS: [Work; 3] = [Work::Push, Work::Cycle, Work::Both];
/// The results of one round, one for each kind of work.
type Round = [Pace; WORKS.len()];

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.queued.exists() {
        bail!("{} is not there: cargo build --release -p queued", options.queued.display());
    }
    // Absolute, because the peers are started in directories of their own.
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
    report.note(&format!(
        "{rounds} rounds of {} ms, after half as long of pushes that do not count; a cycle is a lease and its ack; both is a push and then a cycle; bytes written are \
         all that the disk was given meanwhile, the file system's journal included",
        phase.as_millis()
    ));
    let mut versions: Vec<String> = Peer::ALL.into_iter().filter_map(Peer::version).collect();
    versions.dedup();
    report.note(&format!("beside {}", versions.join(", ")));
    for keeping in kinds {
        let there = who_is_there(keeping, &queued, &mut report);
        let mut worth = Table::new(keeping.sentence(), &["an answer means", "when a worker dies, its item"]);
        for peer in &there {
            let text = |text: &str| Cell::Text(text.to_owned());
            worth.row(peer.name(), vec![text(peer.answer_means(keeping)), text(peer.after_a_death())]);
        }
        report.add(worth);
        let sizes = options.clients.iter().map(|&clients| (SMALL, clients));
        for (order, clients) in sizes.chain([(LARGE, CLIENTS), (MANY, CLIENTS)]) {
            let what = match order {
                SMALL => format!("{keeping:?}, clients: {clients}"),
                LARGE => format!("{keeping:?}, clients: {clients}, items of 4 KiB"),
                _ => format!("{keeping:?}, clients: {clients}, {} items in one go", order.items),
            };
            let setting = Setting { keeping, order, clients, phase };
            let medians = measure(&what, &there, setting, rounds, &queued)?;
            report.add(paces(&what, &medians));
            report.add(times(&what, &medians));
        }
    }
    if options.thousands > 0 {
        let there = who_is_there(Keeping::Interval, &queued, &mut report);
        report.add(backlog::compare(&there, u32::from(options.thousands), rounds, &queued)?);
    }
    report.finish()
}

fn who_is_there(keeping: Keeping, queued: &Path, report: &mut Report) -> Vec<Peer> {
    let (there, missing): (Vec<Peer>, Vec<Peer>) =
        Peer::ALL.into_iter().partition(|peer| peer.is_there(queued, keeping));
    for peer in missing {
        report.note(&format!("{keeping:?}: without {}: {}", peer.name(), peer.needs(keeping)));
    }
    there
}

/// Returns each peer's median round. The peers take turns, and the first one changes each round, so that
/// leftover load of one server does not always affect the same successor. Their files stay until the end,
/// because freeing them takes disk time, too.
fn measure(
    what: &str,
    peers: &[Peer],
    setting: Setting,
    rounds: usize,
    queued: &Path,
) -> anyhow::Result<Vec<(Peer, Round)>> {
    let directory = tempfile::tempdir()?;
    let mut results = vec![Vec::new(); peers.len()];
    for round in 0..rounds {
        let _ = writeln!(std::io::stderr(), "{what}: round {} of {rounds}", round + 1);
        for turn in 0..peers.len() {
            let place = (round + turn) % peers.len();
            let directory = directory.path().join(format!("{round}-{turn}"));
            std::fs::create_dir(&directory)?;
            results[place].push(one_round(peers[place], setting, &directory, queued)?);
        }
    }
    peers.iter().zip(&results).map(|(peer, rounds)| Ok((*peer, middle(rounds)?))).collect()
}

fn one_round(peer: Peer, setting: Setting, directory: &Path, queued: &Path) -> anyhow::Result<Round> {
    let server = peer.start(setting.keeping, directory, queued)?;
    // A warm-up: a server that has just started creates its files meanwhile.
    let begun = Setting { phase: setting.phase / 2, ..setting };
    begun.measure(peer, &server, directory, Work::Push)?;
    let mut paces = Round::default();
    for (pace, work) in paces.iter_mut().zip(WORKS) {
        *pace = setting.measure(peer, &server, directory, work)?;
    }
    Ok(paces)
}

/// Takes the median pace of each kind of work, with its cost in that round.
fn middle(rounds: &[Round]) -> anyhow::Result<Round> {
    let mut middle = Round::default();
    for (work, pace) in middle.iter_mut().enumerate() {
        *pace = median(rounds, |round| round[work].per_second)?[work];
    }
    Ok(middle)
}

fn paces(what: &str, medians: &[(Peer, Round)]) -> Table {
    let mut table = Table::new(
        what,
        &[
            "pushes/s",
            "cycles/s",
            "both/s",
            "CPU µs a push",
            "CPU µs a cycle",
            "bytes written a push",
            "pushes × best peer",
            "cycles × best peer",
            "both × best peer",
        ],
    );
    let peers = medians.iter().filter(|(peer, _)| *peer != Peer::Queued);
    let best: [f64; WORKS.len()] = std::array::from_fn(|work| {
        peers.clone().map(|(_, round)| round[work].per_second).fold(f64::NAN, f64::max)
    });
    for (peer, round) in medians {
        let [push, cycle, _] = round;
        let mut cells: Vec<Cell> = round.iter().map(|pace| Cell::number(pace.per_second, 0)).collect();
        cells.push(Cell::number(push.cpu_us, 1));
        cells.push(Cell::number(cycle.cpu_us, 1));
        cells.push(Cell::number(push.written_bytes, 0));
        cells.extend(round.iter().zip(best).map(|(pace, best)| match peer {
            Peer::Queued => Cell::number(pace.per_second / best, 2),
            _ => Cell::Empty,
        }));
        table.row(peer.name(), cells);
    }
    table
}

fn times(what: &str, medians: &[(Peer, Round)]) -> Table {
    let mut table = Table::new(
        &format!("{what}: µs a request takes"),
        &["push, half", "push, 99 %", "push, 99.9 %", "cycle, half", "cycle, 99 %", "cycle, 99.9 %"],
    );
    for (peer, [push, cycle, _]) in medians {
        let cells = push.took.iter().chain(&cycle.took).map(|took| Cell::number(*took, 0)).collect();
        table.row(peer.name(), cells);
    }
    table
}
