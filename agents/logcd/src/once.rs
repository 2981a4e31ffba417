//! `--once`: makes an archive of the present state, for cron and CronJobs.

use crate::archive_dir::LockedArchiveDir;
use crate::config::Config;
use crate::cycle::archiver::{Archiver, CycleMode};
use crate::error::ArchiveError;
use crate::progress;
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use std::sync::Arc;

/// Makes the archive; also succeeds if nothing has changed since the last one.
pub fn once(config: Config) -> Result<(), Fatal> {
    kit::lifecycle::priority::lower_this_thread();
    let out = LockedArchiveDir::take(&config.out, config.publishing.mode).map_err(fatal)?;
    let mut archiver = Archiver::new(config, out, Arc::default());
    archiver.on_progress(progress::teller());
    let report = archiver.cycle(Timestamp::now(), CycleMode::Thorough).map_err(fatal)?;
    // Drop the progress bar too, so that it does not mix with the messages.
    drop(archiver);
    for (name, skip) in &report.skipped {
        let file = name.escape_ascii().to_string();
        tracing::warn!(event = "log_skipped", file, reason = skip.reason(), "skipped a log");
    }
    for unmatched in &report.unmatched {
        unmatched.warn();
    }
    if let [why, ..] = report.away.as_slice() {
        return Err(Fatal::new(Exit::Failure, format!("{why}; the others are archived")));
    }
    let (files, archive_bytes) = (report.files, report.archive_bytes);
    match report.published {
        Some(published) => tracing::info!(
            event = "archive_published",
            files,
            archive_bytes,
            compressed_bytes = published.compressed,
            "published the archive"
        ),
        None => tracing::info!(event = "archive_unchanged", files, archive_bytes, "nothing has changed"),
    }
    Ok(())
}

/// Converts an error into a message and an exit code.
pub(crate) fn fatal(error: ArchiveError) -> Fatal {
    let exit = match &error {
        ArchiveError::Locked { .. } | ArchiveError::Aborted | ArchiveError::ArchiveChanged(_) => {
            Exit::TryAgain
        }
        error if error.is_disk_full() => Exit::TryAgain,
        _ => Exit::Failure,
    };
    let message = error.to_string();
    let fatal = Fatal::new(exit, message);
    match error {
        ArchiveError::Io { source, .. } => fatal.because(source),
        _ => fatal,
    }
}
