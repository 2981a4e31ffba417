//! Benchmarks of the agents against other programs for the same job, on the same work in the same run.
//!
//! Figures are ratios: machines differ, and this one may be busy with other things. In each round the
//! contenders run one after the other, and the median round is shown.

mod disk;
mod kvd;
mod logcd;
mod logd;
mod process;
mod programs;
mod queued;
mod rank;
mod report;
mod syslog;
mod wire;

use clap::Parser;
use std::path::PathBuf;

/// Compare the agents with their limits and peers
#[derive(Debug, Parser)]
enum Bench {
    /// logd against a bare read-cut-write loop, rsyslog, syslog-ng and two toys, as far as they are there
    Logd(logd::Options),
    /// logcd against tar with gzip, pigz and zstd, or with --pods against rsyslog and syslog-ng, as far as they are
    /// installed; with --day the disk writes of a day
    Logcd(logcd::Options),
    /// queued against Redis, Valkey, beanstalkd and NATS JetStream, as far as they are installed
    Queued(queued::Options),
    /// kvd with very many random keys: its memory, its files, and its restart
    Kvd(kvd::Options),
    /// The bare loop itself: one thread, no promises
    #[command(hide = true)]
    BareLoop { file: PathBuf },
}

fn main() -> anyhow::Result<()> {
    match Bench::parse() {
        Bench::Logd(options) => logd::run(&options),
        Bench::Logcd(options) => logcd::run(&options),
        Bench::Queued(options) => queued::run(&options),
        Bench::Kvd(options) => kvd::run(&options),
        Bench::BareLoop { file } => logd::bare_loop::run(&file),
    }
}
