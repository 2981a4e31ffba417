//! A large backlog of waiting items: its cost in memory and on the disk, and the time of a restart after
//! SIGKILL.

use super::SMALL;
use super::client::{Client, Order};
use super::server::{Keeping, Peer};
use crate::disk::bytes_below;
use crate::process::{Contender, Cost};
use crate::rank::median;
use crate::report::{Cell, Table};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const THOUSAND: Order = Order { items: 1000, ..SMALL };
/// A server that has not read its log within this time never will.
const BACK_WITHIN: Duration = Duration::from_secs(300);

pub fn compare(peers: &[Peer], thousands: u32, rounds: usize, queued: &Path) -> anyhow::Result<Table> {
    let mut table = Table::new(
        &format!("{thousands} thousand items of {} bytes wait", SMALL.body_bytes),
        &[
            "restart ms",
            "memory bytes beyond a body",
            "after the restart",
            "disk bytes an item",
            "restart × best peer",
        ],
    );
    let mut results = Vec::new();
    for peer in peers {
        let _ = writeln!(std::io::stderr(), "{thousands} thousand items: {}", peer.name());
        results.push((*peer, Backlog::of(*peer, thousands, rounds, queued)?));
    }
    let others = results.iter().filter(|(peer, _)| *peer != Peer::Queued);
    let best = others.map(|(_, backlog)| backlog.restart_ms).fold(f64::NAN, f64::min);
    for (peer, backlog) in &results {
        let ratio = match peer {
            Peer::Queued => Cell::number(backlog.restart_ms / best, 2),
            _ => Cell::Empty,
        };
        table.row(
            peer.name(),
            vec![
                Cell::number(backlog.restart_ms, 0),
                Cell::number(backlog.memory_bytes, 0),
                Cell::number(backlog.memory_bytes_again, 0),
                Cell::number(backlog.disk_bytes, 0),
                ratio,
            ],
        );
    }
    Ok(table)
}

/// The cost of a backlog. Byte counts are for each item.
struct Backlog {
    memory_bytes: f64,
    memory_bytes_again: f64,
    disk_bytes: f64,
    restart_ms: f64,
}

impl Backlog {
    fn of(peer: Peer, thousands: u32, rounds: usize, queued: &Path) -> anyhow::Result<Backlog> {
        let directory = tempfile::tempdir()?;
        // Filled without a sync for each item, which would take some servers minutes; the log that is read is
        // the same.
        let server = peer.start(Keeping::Interval, directory.path(), queued)?;
        let empty = server.cost()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut client = Client::connect(peer, Keeping::Interval, THOUSAND, server.port, 0).await?;
            for _ in 0..thousands {
                client.push().await?;
            }
            anyhow::Ok(())
        })?;
        let count = f64::from(thousands) * 1000.0;
        let body_bytes = f64::from(u32::try_from(SMALL.body_bytes)?);
        let beyond_body =
            |cost: Cost| (cost.resident_mib - empty.resident_mib) * f64::from(1 << 20) / count - body_bytes;
        let full = server.cost()?;
        drop(server);
        let disk_bytes = bytes_below(directory.path())?;
        let mut restarts = Vec::new();
        let mut memory_bytes_again = f64::NAN;
        for _ in 0..rounds {
            let began = Instant::now();
            let server = peer.start(Keeping::Interval, directory.path(), queued)?;
            runtime.block_on(first_item(peer, &server))?;
            restarts.push(began.elapsed().as_secs_f64() * 1000.0);
            memory_bytes_again = beyond_body(server.cost()?);
        }
        Ok(Backlog {
            memory_bytes: beyond_body(full),
            memory_bytes_again,
            disk_bytes: disk_bytes / count,
            restart_ms: median(&restarts, |ms| *ms)?,
        })
    }
}

/// Waits for the first item. Some servers listen before they know their items, and report that.
async fn first_item(peer: Peer, server: &Contender) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let answer =
            async { Client::connect(peer, Keeping::Interval, SMALL, server.port, 0).await?.cycle().await };
        match answer.await {
            Ok(1) => return Ok(()),
            Err(error) if began.elapsed() > BACK_WITHIN => return Err(error),
            _ => tokio::task::yield_now().await,
        }
    }
}
