//! The daemon's control loop: it starts the cycles, reports their results, reloads and stops.

use crate::archive_dir::LockedArchiveDir;
use crate::change_watcher::ChangeWatcher;
use crate::config::Config;
use crate::cycle::archiver::CycleMode;
use crate::cycle::report::CycleReport;
use crate::cycle_history::CycleHistory;
use crate::cycle_thread::{CycleThread, DirectoryIds};
use crate::error::ArchiveError;
use crate::freshness::Freshness;
use crate::logs::directories::listed;
use crate::logs::skip::Skip;
use crate::logs::unmatched::Unmatched;
use crate::metrics::LogcdMetrics;
use crate::once::fatal;
use crate::pods::config::PodsConfig;
use crate::settings::{Flags, LIVE};
use jiff::Timestamp;
use jiff::civil::Date;
use kit::daemon::Context;
use kit::exit::Fatal;
use kit::settings::Settings;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// The interval between attempts to lock the directory for archives.
const LOCK_RETRY: Duration = Duration::from_millis(500);
/// Limit on the newly skipped files that are named in the log, because a stranger may plant any number.
const NAMED_MAX: usize = 10;

/// Archives directories until the daemon is drained.
pub async fn run(
    settings: Settings<Flags>,
    config: Config,
    pods: Option<watch::Sender<PodsConfig>>,
    history: CycleHistory,
    context: Context,
) -> Result<(), Fatal> {
    tokio::spawn(context.liveness.answer_for("control"));
    let dirs: Vec<PathBuf> = config.dirs.iter().map(|dir| dir.path.clone()).collect();
    let Some(out) = take(&config, &context).await? else { return Ok(()) };
    let abort = Arc::new(AtomicBool::new(false));
    let cycle_thread = CycleThread::start(config.clone(), out, abort.clone())?;
    let aborting = context.stop.abort.clone();
    tokio::spawn(async move {
        aborting.cancelled().await;
        abort.store(true, Ordering::Relaxed);
    });
    tracing::info!(event = "archiving_started", dirs = %listed(&dirs), out = %config.out.display(), "archiving the logs");
    let control = Control {
        watcher: ChangeWatcher::new(dirs, config.select.recursive),
        metrics: LogcdMetrics::register(&context.metrics),
        history,
        skipped: BTreeMap::new(),
        unmatched: Vec::new(),
        directory_ids: DirectoryIds::new(),
        last_look: None,
        freshness: Freshness::Unknown,
        unfinished: true,
        settings,
        config,
        pods,
        context,
        cycle_thread,
    };
    control.run().await
}

/// Locks the directory for archives. Only one logcd runs at a time: during a rolling update the next one
/// waits here.
async fn take(config: &Config, context: &Context) -> Result<Option<LockedArchiveDir>, Fatal> {
    loop {
        match LockedArchiveDir::take(&config.out, config.publishing.mode) {
            Err(locked @ ArchiveError::Locked { .. }) => {
                context.readiness.block("lock", locked.to_string());
            }
            taken => {
                context.readiness.clear("lock");
                return taken.map(Some).map_err(fatal);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOCK_RETRY) => {}
            () = context.stop.drain.cancelled() => return Ok(None),
        }
    }
}

struct Control {
    settings: Settings<Flags>,
    config: Config,
    /// Hands changed settings to the thread that follows container logs, if there is one.
    pods: Option<watch::Sender<PodsConfig>>,
    context: Context,
    cycle_thread: CycleThread,
    watcher: ChangeWatcher,
    metrics: LogcdMetrics,
    history: CycleHistory,
    skipped: BTreeMap<Vec<u8>, Skip>,
    /// The directories in which nothing matched at the last look.
    unmatched: Vec<Unmatched>,
    /// The directories and the lock at the last look; they differ after one was moved or replaced.
    directory_ids: DirectoryIds,
    /// The time and day of the last look.
    last_look: Option<(Instant, Date)>,
    freshness: Freshness,
    /// True if the last cycle left something to do.
    unfinished: bool,
}

impl Control {
    async fn run(mut self) -> Result<(), Fatal> {
        let stop = self.context.stop.clone();
        let mut hangups = stop.hangups();
        let mut config = self.settings.flags.serve.common.file();
        let mut ticks = ticks(self.config.publishing.interval);
        loop {
            tokio::select! {
                biased;
                () = stop.drain.cancelled() => break,
                () = self.watcher.changed() => {}
                Ok(()) = hangups.changed() => {
                    self.reload(&mut ticks);
                    self.cycle(CycleMode::Now).await?;
                }
                () = config.changed() => self.reload(&mut ticks),
                _ = ticks.tick() => {
                    let directory_ids = self.cycle_thread.directory_ids().await?;
                    if directory_ids != self.directory_ids {
                        self.watcher.stop();
                    }
                    self.directory_ids = directory_ids;
                    if self.must_look() {
                        let mode = self.mode();
                        self.cycle(mode).await?;
                    } else {
                        self.metrics.idle();
                    }
                }
            }
        }
        // The last archive has everything that was written before the stop.
        self.cycle(CycleMode::Now).await
    }

    fn must_look(&self) -> bool {
        let today = self.config.calendar.day(Timestamp::now());
        self.unfinished
            || self.watcher.has_changed()
            || self
                .last_look
                .is_none_or(|(at, day)| at.elapsed() >= self.config.publishing.poll || day != today)
    }

    /// Publishes news at this look if it would be too old at the next one.
    fn mode(&mut self) -> CycleMode {
        // If the kernel reported no change, one may still have come right after the last look.
        let since = self.watcher.changed_at().or(self.last_look.map(|(at, _)| at));
        if let Some(since) = since {
            self.freshness.news(since);
        }
        let publishing = &self.config.publishing;
        match self.freshness.is_due(Instant::now(), publishing.within, publishing.interval) {
            true => CycleMode::Now,
            false => CycleMode::WhenWorthIt,
        }
    }

    async fn cycle(&mut self, mode: CycleMode) -> Result<(), Fatal> {
        self.watcher.start();
        let began = Instant::now();
        self.last_look = Some((began, self.config.calendar.day(Timestamp::now())));
        let result = self.cycle_thread.cycle(mode).await?;
        let took = began.elapsed();
        let readiness = self.context.readiness.clone();
        match result {
            Ok(report) => {
                let now = Timestamp::now();
                self.metrics.done(&report, took, now.as_second());
                self.history.done(&report, report.result(), took, now.as_millisecond());
                self.unfinished = report.waiting.is_some();
                if !self.unfinished {
                    self.freshness.published();
                }
                self.report(&report, took);
                match report.away.as_slice() {
                    [] => readiness.clear("directory"),
                    why => readiness.block("directory", why.join("; ")),
                }
                readiness.clear("disk");
                readiness.clear("archive");
            }
            Err(ArchiveError::Aborted) => {
                self.unfinished = true;
                return Ok(());
            }
            Err(error) => {
                let full = error.is_disk_full();
                let result = if full { "disk_full" } else { "failed" };
                self.metrics.failed(result, took);
                self.history.failed(result, took, Timestamp::now().as_millisecond());
                self.unfinished = true;
                let fatal = fatal(error);
                if full {
                    tracing::debug!(event = "disk_full", error = fatal.one_line(), "the disk is full");
                    let out = self.config.out.display();
                    let floor = self.config.limits.min_free;
                    let reason = format!(
                        "no room for an archive on {out} if --min-free {floor} is kept; the last archive \
                         stays until there is"
                    );
                    readiness.block("disk", reason);
                } else {
                    readiness.block("archive", fatal.one_line());
                }
            }
        }
        readiness.clear("starting");
        Ok(())
    }

    fn report(&mut self, report: &CycleReport, took: Duration) {
        let news: Vec<_> =
            report.skipped.iter().filter(|(name, skip)| self.skipped.get(*name) != Some(skip)).collect();
        for (name, skip) in news.iter().take(NAMED_MAX) {
            let file = name.escape_ascii().to_string();
            tracing::warn!(event = "log_skipped", file, reason = skip.reason(), "skipped a log");
        }
        if news.len() > NAMED_MAX {
            tracing::warn!(
                event = "more_logs_skipped",
                files = news.len() - NAMED_MAX,
                "skipped more logs; see the metrics"
            );
        }
        self.skipped.clone_from(&report.skipped);
        self.report_unmatched(&report.unmatched);
        if let Some(published) = report.published {
            tracing::debug!(
                event = "archive_published",
                files = report.files,
                archive_bytes = report.archive_bytes,
                compressed_bytes = published.compressed,
                took_ms = took.as_millis(),
                "published the archive"
            );
        }
    }

    /// Warns once of a directory in which nothing matches. Warns again after it had logs, or when its
    /// contents become of another kind (`OtherNames`).
    fn report_unmatched(&mut self, now: &[Unmatched]) {
        let same = |a: &Unmatched, b: &Unmatched| {
            a.path == b.path && std::mem::discriminant(&a.names) == std::mem::discriminant(&b.names)
        };
        for unmatched in now.iter().filter(|now| !self.unmatched.iter().any(|before| same(before, now))) {
            unmatched.warn();
        }
        for before in self.unmatched.iter().filter(|before| !now.iter().any(|now| now.path == before.path)) {
            tracing::info!(
                event = "logs_appeared",
                dir = %before.path.display(),
                "the log directory has logs now"
            );
        }
        self.unmatched = now.to_vec();
    }

    /// Applies changed settings, and names those that need a restart. Keeps the old settings if the new ones
    /// are invalid.
    fn reload(&mut self, ticks: &mut tokio::time::Interval) {
        let renewed = self.settings.renew(LIVE, |flags| {
            let config = flags.serve.config()?;
            let pods = flags.serve.pods_config()?;
            kit::telemetry::logs::set_level(&flags.serve.common.log_level)?;
            Ok((config, pods))
        });
        let Some((new, (config, pods))) = renewed else { return };
        if let (Some(sender), Some(config)) = (&self.pods, pods) {
            let restart = sender.borrow().needs_restart_for(&config);
            sender.send_replace(config);
            if !restart.is_empty() {
                tracing::warn!(
                    event = "pods_restart_required",
                    settings = restart.join(" "),
                    "these changed settings hold for archives of days; those of container logs need a restart"
                );
            }
        }
        let (dirs, out) = (self.config.dirs.clone(), self.config.out.clone());
        self.config = Config { dirs, out, ..config };
        self.cycle_thread.configure(self.config.clone());
        *ticks = self::ticks(self.config.publishing.interval);
        self.unfinished = true;
        self.settings = new;
    }
}

/// Returns a timer whose first tick is immediate. After a cycle longer than an interval, missed ticks are
/// skipped.
fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
