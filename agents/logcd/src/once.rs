//! `--once`: makes an archive of the present state, for cron and CronJobs.

use crate::config::Config;
use crate::cycle::archivist::{Archivist, Haste};
use crate::outdir::OutDir;
use crate::progress;
use crate::trouble::Trouble;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::sync::Arc;

/// Makes the archive; also succeeds if nothing has changed since the last one.
pub fn once(config: Config) -> Result<(), Fatal> {
    kit::lifecycle::priority::lower_this_thread();
    let out = OutDir::take(&config.out, config.publishing.mode).map_err(fatal)?;
    let mut archivist = Archivist::new(config, out, Arc::default());
    archivist.on_progress(progress::teller());
    let outcome = archivist.cycle(Timestamp::now(), Haste::Thorough).map_err(fatal)?;
    // Drop the progress bar too, so that it does not mix with the messages.
    drop(archivist);
    for (name, skip) in &outcome.skipped {
        let file = name.escape_ascii().to_string();
        tracing::warn!(file, reason = skip.reason(), "skipped");
    }
    for unmatched in &outcome.unmatched {
        unmatched.warn();
    }
    if let [why, ..] = outcome.away.as_slice() {
        return Err(Fatal::new(Exit::Failure, format!("{why}; the others are archived")));
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

/// Converts an error into a message and an exit code.
pub(crate) fn fatal(trouble: Trouble) -> Fatal {
    let exit = match &trouble {
        Trouble::Locked { .. } | Trouble::Aborted | Trouble::ArchiveChanged(_) => Exit::TryAgain,
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
