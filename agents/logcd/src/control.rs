//! The daemon's control side: when to look, what became of it, and how it ends.

use crate::alarm::Alarm;
use crate::config::Config;
use crate::cycle::archivist::{Haste, Outcome};
use crate::diary::Diary;
use crate::logs::scan::Skip;
use crate::metrics::LogcdMetrics;
use crate::once::fatal;
use crate::outdir::OutDir;
use crate::page::{self, Sight};
use crate::settings::{Flags, LIVE};
use crate::trouble::Trouble;
use crate::worker::Worker;
use jiff::Timestamp;
use jiff::civil::Date;
use kit::daemon::Context;
use kit::exit::Fatal;
use kit::settings::Settings;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// How often to ask whether the logcd before this one has let the directory go.
const LOCK_RETRY: Duration = Duration::from_millis(500);
/// So many files that are newly passed over are named; a stranger may plant any number.
const NAMED_MAX: usize = 10;

/// Runs the daemon until it is drained.
pub async fn run(settings: Settings<Flags>, context: Context) -> Result<(), Fatal> {
    let config = settings.flags.serve.config()?;
    let access = settings.flags.serve.page.load()?;
    tokio::spawn(context.liveness.answer_for("control"));
    let Some(out) = take(&config, &context).await? else { return Ok(()) };
    let abort = Arc::new(AtomicBool::new(false));
    let worker = Worker::start(config.clone(), out, abort.clone())?;
    let aborting = context.stop.abort.clone();
    tokio::spawn(async move {
        aborting.cancelled().await;
        abort.store(true, Ordering::Relaxed);
    });
    tracing::info!(dir = %config.dir.display(), out = %config.out.display(), "archiving");
    let diary = Diary::default();
    let sight = Sight {
        dir: config.dir.clone(),
        out: config.out.clone(),
        notes: diary.read(),
        readiness: context.readiness.clone(),
    };
    let _ = context.pages.set(page::routes(sight, access));
    let control = Control {
        alarm: Alarm::new(&config.dir, config.select.recursive),
        metrics: LogcdMetrics::register(&context.metrics),
        diary,
        skipped: BTreeMap::new(),
        looked: None,
        unfinished: true,
        settings,
        config,
        context,
        worker,
    };
    control.run().await
}

/// One logcd at a time: during a rolling update the next one waits here.
async fn take(config: &Config, context: &Context) -> Result<Option<OutDir>, Fatal> {
    loop {
        match OutDir::take(&config.out, config.publishing.mode) {
            Err(held @ Trouble::Locked { .. }) => {
                context.readiness.block("lock", held.to_string());
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
    context: Context,
    worker: Worker,
    alarm: Alarm,
    metrics: LogcdMetrics,
    diary: Diary,
    skipped: BTreeMap<Vec<u8>, Skip>,
    /// When, and on which day, the directory was last looked at.
    looked: Option<(Instant, Date)>,
    /// The last cycle left something to do.
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
                () = self.alarm.hush() => {}
                Ok(()) = hangups.changed() => {
                    self.reload(&mut ticks);
                    self.cycle(Haste::Now).await?;
                }
                () = config.changed() => self.reload(&mut ticks),
                _ = ticks.tick() => {
                    if self.has_reason_to_look() {
                        self.cycle(Haste::WhenWorthIt).await?;
                    } else {
                        self.metrics.idle();
                    }
                }
            }
        }
        // What was written until now is in the archive that is left behind.
        self.cycle(Haste::Now).await
    }

    fn has_reason_to_look(&self) -> bool {
        let today = self.config.calendar.day(Timestamp::now());
        self.unfinished
            || self.alarm.has_rung()
            || self.looked.is_none_or(|(at, day)| at.elapsed() >= self.config.publishing.poll || day != today)
    }

    async fn cycle(&mut self, haste: Haste) -> Result<(), Fatal> {
        self.alarm.arm();
        let began = Instant::now();
        self.looked = Some((began, self.config.calendar.day(Timestamp::now())));
        let result = self.worker.cycle(haste).await?;
        let took = began.elapsed();
        let readiness = self.context.readiness.clone();
        match result {
            Ok(outcome) => {
                let now = Timestamp::now();
                self.metrics.done(&outcome, took, now.as_second());
                self.diary.done(&outcome, outcome.result(), took, now.as_millisecond());
                self.unfinished = outcome.waiting.is_some();
                self.tell(&outcome, took);
                readiness.clear("disk");
                readiness.clear("archive");
                readiness.clear("starting");
            }
            Err(Trouble::Aborted) => self.unfinished = true,
            Err(trouble) => {
                let full = trouble.is_disk_full();
                let result = if full { "disk_full" } else { "failed" };
                self.metrics.failed(result, took);
                self.diary.failed(result, took, Timestamp::now().as_millisecond());
                self.unfinished = true;
                let fatal = fatal(trouble);
                if full {
                    tracing::debug!(error = fatal.one_line(), "the disk is full");
                    let out = self.config.out.display();
                    let reason =
                        format!("no room for an archive on {out}; the last one stays until there is");
                    readiness.block("disk", reason);
                } else {
                    readiness.block("archive", fatal.one_line());
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, outcome: &Outcome, took: Duration) {
        let news: Vec<_> =
            outcome.skipped.iter().filter(|(name, skip)| self.skipped.get(*name) != Some(skip)).collect();
        for (name, skip) in news.iter().take(NAMED_MAX) {
            let file = name.escape_ascii().to_string();
            tracing::warn!(file, reason = skip.reason(), "passed over");
        }
        if news.len() > NAMED_MAX {
            tracing::warn!(files = news.len() - NAMED_MAX, "more files are passed over; see the metrics");
        }
        self.skipped.clone_from(&outcome.skipped);
        if let Some(published) = outcome.published {
            tracing::debug!(
                files = outcome.files,
                archive_bytes = outcome.archive_bytes,
                compressed_bytes = published.compressed,
                took_ms = took.as_millis(),
                "published"
            );
        }
    }

    /// Applies what changed, names what cannot be applied, and keeps the old settings when the new are bad.
    fn reload(&mut self, ticks: &mut tokio::time::Interval) {
        let renewed = self.settings.renew(LIVE, |flags| {
            let config = flags.serve.config()?;
            kit::logs::set_level(&flags.serve.common.log_level)?;
            Ok(config)
        });
        let Some((new, config)) = renewed else { return };
        let (dir, out) = (self.config.dir.clone(), self.config.out.clone());
        self.config = Config { dir, out, ..config };
        self.worker.configure(self.config.clone());
        *ticks = self::ticks(self.config.publishing.interval);
        self.unfinished = true;
        self.settings = new;
    }
}

/// The first tick is at once. A cycle that took longer than an interval is no reason to hurry.
fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
