//! Progress bars for a person at a terminal; hidden everywhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{Read, Seek};

/// Less work than this ends before anybody can read a progress bar.
const LOGS_WORTH_A_BAR_BYTES: u64 = 64 << 20;
const ARCHIVE_WORTH_A_BAR_BYTES: u64 = 4 << 20;

/// Returns a function that shows the number of archived bytes and their total.
pub fn teller() -> impl Fn(u64, u64) + Send {
    let bar = bar(0);
    move |done, total| {
        if total < LOGS_WORTH_A_BAR_BYTES {
            return;
        }
        if bar.length() != Some(total) {
            bar.set_length(total);
        }
        bar.set_position(done);
        if done >= total {
            bar.finish_and_clear();
        }
    }
}

/// Wraps an archive in a reader that moves a progress bar.
pub fn reading(archive: &File) -> impl Read + Seek {
    let bytes = archive.metadata().map_or(0, |metadata| metadata.len());
    let bar = if bytes < ARCHIVE_WORTH_A_BAR_BYTES { ProgressBar::hidden() } else { bar(bytes) };
    bar.wrap_read(archive)
}

fn bar(bytes: u64) -> ProgressBar {
    // Hides itself if stderr is not a terminal.
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("[{bar:40}] {binary_bytes} of {binary_total_bytes}, {eta} left") {
        Ok(style) => bar.with_style(style.progress_chars("## ")),
        Err(_) => bar,
    }
}
