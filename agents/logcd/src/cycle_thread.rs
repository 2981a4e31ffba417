//! The thread that runs the cycles, at the lowest priority.

use crate::archive_dir::LockedArchiveDir;
use crate::config::Config;
use crate::cycle::archiver::{Archiver, CycleMode};
use crate::cycle::report::CycleReport;
use crate::error::ArchiveError;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// Device and inode of each directory and of the lock, if it exists.
pub type DirectoryIds = Vec<Option<(u64, u64)>>;

enum Request {
    Cycle(CycleMode, oneshot::Sender<Result<CycleReport, ArchiveError>>),
    Configure(Box<Config>),
    DirectoryIds(oneshot::Sender<DirectoryIds>),
}

/// The thread that runs the cycles; it ends when this is dropped.
pub struct CycleThread {
    requests: mpsc::Sender<Request>,
}

impl CycleThread {
    /// Starts the thread. Setting `abort` stops a running cycle.
    pub fn start(
        config: Config,
        out: LockedArchiveDir,
        abort: Arc<AtomicBool>,
    ) -> Result<CycleThread, Fatal> {
        let (requests, received) = mpsc::channel();
        let work = move || {
            kit::lifecycle::priority::lower_this_thread();
            let mut archiver = Archiver::new(config, out, abort);
            for request in received {
                match request {
                    Request::Cycle(mode, reply) => drop(reply.send(archiver.cycle(Timestamp::now(), mode))),
                    Request::Configure(config) => archiver.configure(*config),
                    Request::DirectoryIds(reply) => drop(reply.send(archiver.directory_ids())),
                }
            }
        };
        kit::daemon::spawn("logcd-cycle", work)?;
        Ok(CycleThread { requests })
    }

    pub async fn cycle(&self, mode: CycleMode) -> Result<Result<CycleReport, ArchiveError>, Fatal> {
        self.ask(|reply| Request::Cycle(mode, reply)).await
    }

    pub async fn directory_ids(&self) -> Result<DirectoryIds, Fatal> {
        self.ask(Request::DirectoryIds).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Fatal> {
        let gone = || Fatal::new(Exit::Failure, "the thread that makes the archives has died");
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Applies settings from the next cycle on.
    pub fn configure(&self, config: Config) {
        // A thread that has ended is noticed with the next cycle.
        let _ = self.requests.send(Request::Configure(Box::new(config)));
    }
}
