//! `--once`: the archive of the present state, for cron and CronJobs.

use crate::archivist::{Archivist, Haste};
use crate::config::Config;
use crate::outdir::OutDir;
use crate::trouble::Trouble;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Succeeds with an archive that is published, also when nothing had changed since the last one.
pub fn once(config: Config) -> Result<(), Fatal> {
    kit::priority::lower_this_thread();
    let out = OutDir::take(&config.out, config.publishing.mode).map_err(fatal)?;
    let mut archivist = Archivist::new(config, out, Arc::default());
    if std::io::stderr().is_terminal() {
        archivist.on_progress(progress_bar(Instant::now()));
    }
    let outcome = archivist.cycle(Timestamp::now(), Haste::Now).map_err(fatal)?;
    for (name, skip) in &outcome.skipped {
        let file = name.escape_ascii().to_string();
        tracing::warn!(file, reason = skip.reason(), "passed over");
    }
    let compressed = outcome.published.map_or(0, |published| published.compressed);
    tracing::info!(
        files = outcome.files,
        archive_bytes = outcome.archive_bytes,
        compressed_bytes = compressed,
        "{}",
        if outcome.published.is_some() { "archived" } else { "nothing has changed" }
    );
    Ok(())
}

/// One line that is written over and over, and cleared when all is done. Small work shows none.
fn progress_bar(began: Instant) -> impl Fn(u64, u64) {
    const BAR: &str = "########################################";
    const WORTH_A_BAR_BYTES: u64 = 64 << 20;
    let told = Cell::new(began);
    move |done, total| {
        let quiet = done < total && told.get().elapsed() < Duration::from_millis(100);
        if quiet || total < WORTH_A_BAR_BYTES {
            return;
        }
        told.set(Instant::now());
        let share = usize::try_from(done.min(total) * 40 / total).unwrap_or(0);
        let line = if done < total {
            format!("\r[{:40}] {} of {} MiB", &BAR[..share], done >> 20, total >> 20)
        } else {
            format!("\r{:70}\r", "")
        };
        // A terminal that is gone is no reason to stop.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// A trouble as the end of the process.
pub(crate) fn fatal(trouble: Trouble) -> Fatal {
    let exit = match &trouble {
        Trouble::Locked(_) | Trouble::Aborted | Trouble::ArchiveChanged(_) => Exit::TryAgain,
        trouble if trouble.is_disk_full() => Exit::TryAgain,
        _ => Exit::Failure,
    };
    let message = trouble.to_string();
    let fatal = Fatal::new(exit, message);
    match trouble {
        Trouble::Io { source, .. } => fatal.because(source),
        _ => fatal,
    }
}
