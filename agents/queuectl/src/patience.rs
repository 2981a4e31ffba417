//! Trying again: how long to wait, and what is said about it.

use crate::failure::Failure;
use kit::backoff::{Backoff, jittered};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A worker that waits longer than this after its server is back holds up the end of a Job.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The failures since the last success, said once at their beginning and once at their end.
pub(crate) struct Patience<'a> {
    server: &'a str,
    backoff: Backoff,
    is_away: bool,
}

impl<'a> Patience<'a> {
    pub(crate) fn with(server: &'a str) -> Patience<'a> {
        Patience { server, backoff: Backoff::up_to(PAUSE_MAX), is_away: false }
    }

    pub(crate) fn succeeded(&mut self) {
        self.backoff.succeeded();
        if std::mem::take(&mut self.is_away) {
            tracing::info!(server = self.server, "queued answers again");
        }
    }

    pub(crate) async fn after(&mut self, failure: &Failure) {
        if self.is_away {
            tracing::debug!(server = self.server, error = %failure, "queued is still away");
        } else {
            tracing::warn!(server = self.server, error = %failure, "queued is away, trying again until it is back");
            self.is_away = true;
        }
        self.pause().await;
    }

    /// For answers that came too soon to be asked for again at once.
    pub(crate) async fn pause(&mut self) {
        sleep(jittered(self.backoff.ceiling_after_failure())).await;
    }
}

/// Asks until there is an answer, a refusal that will not change, or no time left.
pub(crate) async fn persist<T>(
    server: &str,
    give_up: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let begun = Instant::now();
    let mut patience = Patience::with(server);
    loop {
        match ask().await {
            Err(failure) if failure.may_pass() && begun.elapsed() < give_up => {
                patience.after(&failure).await;
            }
            other => {
                if other.is_ok() {
                    patience.succeeded();
                }
                return other;
            }
        }
    }
}
