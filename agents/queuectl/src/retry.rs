//! Retries: the pauses between them, and the log lines about an outage.

use crate::api::Client;
use crate::failure::Failure;
use kit::net::backoff::{Backoff, jittered};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The longest pause. A worker that waits longer after its server is back delays the end of a Job.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tracks if the server is away. All requests of a process share one `Outage`. So the log reports an outage
/// once at its beginning and once at its end, even with many jobs.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<OutageState>);

#[derive(Debug, Default)]
struct OutageState {
    is_away: bool,
    answered: Option<Instant>,
}

impl Outage {
    /// Notes a failure. Returns true if it begins an outage. A request that was sent before the last answer
    /// begins no outage.
    fn begin(&self, asked: Instant) -> bool {
        let mut state = self.state();
        let is_old = state.answered.is_some_and(|answered| answered > asked);
        !is_old && !std::mem::replace(&mut state.is_away, true)
    }

    /// Notes an answer. Returns true if it ends an outage.
    fn end(&self) -> bool {
        let mut state = self.state();
        state.answered = Some(Instant::now());
        std::mem::take(&mut state.is_away)
    }

    fn state(&self) -> MutexGuard<'_, OutageState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the failures of one request since its last success.
pub(crate) struct Retry<'a> {
    client: &'a Client,
    backoff: Backoff,
    asked: Instant,
}

impl<'a> Retry<'a> {
    pub(crate) fn of(client: &'a Client) -> Retry<'a> {
        Retry { client, backoff: Backoff::up_to(PAUSE_MAX), asked: Instant::now() }
    }

    pub(crate) fn succeeded(&mut self) {
        self.backoff.succeeded();
        if self.client.outage.end() {
            tracing::info!(event = "server_returned", server = self.client.server(), "queued answers again");
        }
        self.asked = Instant::now();
    }

    /// Waits for a random time before the next attempt.
    pub(crate) async fn after(&mut self, failure: &Failure) {
        let server = self.client.server();
        if self.client.outage.begin(self.asked) {
            tracing::warn!(
                event = "server_lost",
                server,
                error = %failure,
                "queued is unreachable, retrying until it is back"
            );
        } else {
            tracing::debug!(
                event = "server_still_lost",
                server,
                error = %failure,
                "queued is still unreachable"
            );
        }
        self.pause().await;
    }

    /// Waits before repeating a request whose answer came too soon.
    pub(crate) async fn pause(&mut self) {
        sleep(jittered(self.backoff.ceiling_after_failure())).await;
        self.asked = Instant::now();
    }
}

/// Retries until there is an answer, a permanent refusal, or no time left.
pub(crate) async fn until_answered<T>(
    client: &Client,
    give_up: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let begun = Instant::now();
    let mut retry = Retry::of(client);
    loop {
        match ask().await {
            Err(failure) if failure.may_pass() && begun.elapsed() < give_up => {
                retry.after(&failure).await;
            }
            other => {
                if other.is_ok() {
                    retry.succeeded();
                }
                return other;
            }
        }
    }
}
