//! Several concurrent clients that repeat one operation: the rate, the server's cost for each item, and the
//! latency.

use super::client::{Client, Order};
use super::server::{Keeping, Peer};
use crate::disk;
use crate::process::Contender;
use crate::rank::within;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Push,
    /// A lease and its ack.
    Cycle,
    /// A push, then a cycle.
    Both,
}

/// The results of one phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Items per second.
    pub per_second: f64,
    /// CPU time of the server for each item.
    pub cpu_us: f64,
    /// Bytes written to the disk for each item.
    pub written_bytes: f64,
    /// Latency of a request in microseconds: the percentiles 50, 99 and 99.9.
    pub took: [f64; 3],
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub keeping: Keeping,
    pub order: Order,
    pub clients: u16,
    pub phase: Duration,
}

impl Setting {
    /// Runs all connections on one thread, so that the load costs every server the same.
    pub fn measure(
        self,
        peer: Peer,
        server: &Contender,
        directory: &Path,
        work: Work,
    ) -> anyhow::Result<Pace> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connected = Vec::new();
            for number in 0..self.clients {
                connected.push(Client::connect(peer, self.keeping, self.order, server.port, number).await?);
            }
            let written_before = disk::written_bytes(directory);
            let before = server.cost()?;
            let began = Instant::now();
            let until = began + self.phase;
            let tasks: Vec<_> = connected
                .into_iter()
                .map(|client| tokio::spawn(repeat(client, work, self.order.items, until)))
                .collect();
            let (mut total, mut took) = (0.0, Vec::new());
            for task in tasks {
                let (done, times) = task.await??;
                total += f64::from(u32::try_from(done)?);
                took.extend(times);
            }
            let seconds = began.elapsed().as_secs_f64();
            let after = server.cost()?;
            took.sort();
            Ok(Pace {
                per_second: total / seconds,
                cpu_us: (after.cpu_seconds - before.cpu_seconds) * 1e6 / total,
                written_bytes: (disk::written_bytes(directory) - written_before) / total,
                took: [500, 990, 999].map(|of_a_thousand| within(&took, of_a_thousand) * 1e6),
            })
        })
    }
}

/// Repeats the work until the deadline; returns the number of items and the duration of each repetition.
async fn repeat(
    mut client: Client,
    work: Work,
    items: usize,
    until: Instant,
) -> anyhow::Result<(usize, Vec<Duration>)> {
    let (mut done, mut times) = (0, Vec::new());
    let mut now = Instant::now();
    while now < until {
        if work != Work::Cycle {
            client.push().await?;
        }
        let count = if work == Work::Push { items } else { client.cycle().await? };
        if count == 0 && work == Work::Cycle {
            break;
        }
        done += count;
        let then = std::mem::replace(&mut now, Instant::now());
        times.push(now - then);
    }
    Ok((done, times))
}
