//! A great many items that wait: what they cost in memory and on the disk, and how long a restart after SIGKILL takes.

use super::client::{Client, Order};
use super::server::{Keeping, Peer};
use crate::process::{Contender, Cost};
use crate::report::{Cell, Table};
use anyhow::Context;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const BODY_BYTES: u32 = 100;
const AT_ONCE: u32 = 1000;
/// A server that has not read its log by then never will.
const BACK_WITHIN: Duration = Duration::from_secs(300);

pub fn compare(peers: &[Peer], thousands: u32, rounds: usize, queued: &Path) -> anyhow::Result<Table> {
    let mut table = Table::new(
        &format!("{thousands} thousand items of {BODY_BYTES} bytes wait"),
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

/// Of each item, where it is bytes.
struct Backlog {
    memory_bytes: f64,
    memory_bytes_again: f64,
    disk_bytes: f64,
    restart_ms: f64,
}

impl Backlog {
    fn of(peer: Peer, thousands: u32, rounds: usize, queued: &Path) -> anyhow::Result<Backlog> {
        let directory = tempfile::tempdir()?;
        let order = |items: u32| -> anyhow::Result<Order> {
            Ok(Order { body_bytes: usize::try_from(BODY_BYTES)?, items: usize::try_from(items)? })
        };
        // Filled without a sync for each, which would take some of them minutes; what is read is the same.
        let server = peer.start(Keeping::Interval, directory.path(), queued)?;
        let empty = server.cost()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let order = order(AT_ONCE)?;
            let mut client = Client::connect(peer, Keeping::Interval, order, server.port, 0).await?;
            for _ in 0..thousands * 1000 / AT_ONCE {
                client.push().await?;
            }
            anyhow::Ok(())
        })?;
        let count = f64::from(thousands) * 1000.0;
        let beyond_body = |cost: Cost| {
            (cost.resident_mib - empty.resident_mib) * f64::from(1 << 20) / count - f64::from(BODY_BYTES)
        };
        let full = server.cost()?;
        drop(server);
        let disk_bytes = bytes_below(directory.path())?;
        let mut restarts = Vec::new();
        let mut memory_bytes_again = f64::NAN;
        for _ in 0..rounds {
            let began = Instant::now();
            let server = peer.start(Keeping::Interval, directory.path(), queued)?;
            runtime.block_on(first_item(peer, order(1)?, &server))?;
            restarts.push(began.elapsed().as_secs_f64() * 1000.0);
            memory_bytes_again = beyond_body(server.cost()?);
        }
        restarts.sort_by(f64::total_cmp);
        Ok(Backlog {
            memory_bytes: beyond_body(full),
            memory_bytes_again,
            disk_bytes: disk_bytes / count,
            restart_ms: *restarts.get(restarts.len() / 2).context("no round")?,
        })
    }
}

/// Some listen before they know what they hold, and say so.
async fn first_item(peer: Peer, order: Order, server: &Contender) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let answer =
            async { Client::connect(peer, Keeping::Interval, order, server.port, 0).await?.cycle().await };
        match answer.await {
            Ok(1) => return Ok(()),
            Err(error) if began.elapsed() > BACK_WITHIN => return Err(error),
            _ => tokio::task::yield_now().await,
        }
    }
}

fn bytes_below(directory: &Path) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata()? {
            metadata if metadata.is_dir() => bytes_below(&entry.path())?,
            metadata => f64::from(u32::try_from(metadata.len())?),
        };
    }
    Ok(bytes)
}
