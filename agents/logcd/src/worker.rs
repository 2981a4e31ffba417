//! The thread that runs the cycles, at the lowest priority.

use crate::archive_dir::LockedArchiveDir;
use crate::config::Config;
use crate::cycle::archiver::{Archiver, CycleMode, CycleReport};
use crate::error::ArchiveError;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// Device and inode of each directory and of the lock, if it exists.
pub type Places = Vec<Option<(u64, u64)>>;

enum Order {
    Cycle(CycleMode, oneshot::Sender<Result<CycleReport, ArchiveError>>),
    Configure(Box<Config>),
    Places(oneshot::Sender<Places>),
}

/// The thread that runs the cycles; it ends when this is dropped.
pub struct Worker {
    orders: mpsc::Sender<Order>,
}

impl Worker {
    /// Starts the thread. Setting `abort` stops a running cycle.
    pub fn start(config: Config, out: LockedArchiveDir, abort: Arc<AtomicBool>) -> Result<Worker, Fatal> {
        let (orders, received) = mpsc::channel();
        let work = move || {
            kit::lifecycle::priority::lower_this_thread();
            let mut archiver = Archiver::new(config, out, abort);
            for order in received {
                match order {
                    Order::Cycle(haste, reply) => drop(reply.send(archiver.cycle(Timestamp::now(), haste))),
                    Order::Configure(config) => archiver.configure(*config),
                    Order::Places(reply) => drop(reply.send(archiver.places())),
                }
            }
        };
        kit::daemon::spawn("logcd-cycle", work)?;
        Ok(Worker { orders })
    }

    pub async fn cycle(&self, haste: CycleMode) -> Result<Result<CycleReport, ArchiveError>, Fatal> {
        self.ask(|reply| Order::Cycle(haste, reply)).await
    }

    pub async fn places(&self) -> Result<Places, Fatal> {
        self.ask(Order::Places).await
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Fatal> {
        let gone = || Fatal::new(Exit::Failure, "the thread that makes the archives has died");
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Applies settings from the next cycle on.
    pub fn configure(&self, config: Config) {
        // A worker that has ended is noticed with the next cycle.
        let _ = self.orders.send(Order::Configure(Box::new(config)));
    }
}
