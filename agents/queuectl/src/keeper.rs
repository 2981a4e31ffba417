//! The leases that this worker holds, and the task that extends them until their results are reported.

use crate::api::Client;
use crate::queue_name::QueueName;
use crate::wire::{Extend, Item, Lease, Status};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// A lease is extended after its duration divided by this.
const EXTEND_AFTER: u32 = 3;
/// Leases that are due within their duration divided by this are extended in the same request.
const EXTEND_TOGETHER: u32 = 10;
/// The protocol's bound for one request.
const BATCH_MAX: usize = 1000;
/// A failed extension is retried within this time, or a third of the lease if that is shorter.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Keeper {
    held: Mutex<BTreeMap<Lease, HeldLease>>,
    changed: Notify,
}

struct HeldLease {
    lasts: Duration,
    extend_at: Instant,
    lost: CancellationToken,
}

impl Keeper {
    /// Starts to extend a lease. The returned token is cancelled when the server says that the lease is lost.
    pub(crate) fn hold(&self, item: &Item) -> CancellationToken {
        let lasts = Duration::from_millis(item.lease_ms);
        let lost = CancellationToken::new();
        let held = HeldLease { lasts, extend_at: Instant::now() + lasts / EXTEND_AFTER, lost: lost.clone() };
        self.held().insert(item.lease(), held);
        self.changed.notify_one();
        lost
    }

    /// Stops extending these leases: the server has their results.
    pub(crate) fn forget<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>) {
        let mut held = self.held();
        for lease in leases {
            held.remove(lease);
        }
    }

    /// Extends all held leases, without end.
    pub(crate) async fn keep(&self, client: &Client, queue: &QueueName) {
        loop {
            let next = self.held().values().map(|held| held.extend_at).min();
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.extend(client, queue).await,
                () = self.changed.notified() => {}
            }
        }
    }

    async fn extend(&self, client: &Client, queue: &QueueName) {
        let now = Instant::now();
        let (due, lasts) = self.due(now);
        // A server that hangs must leave time for a second attempt.
        let result = client.extend(queue, &due, lasts / EXTEND_AFTER).await;
        let mut all = self.held();
        match result {
            Ok(outcomes) => {
                for extend in &due {
                    if let Some(held) = all.get_mut(&extend.lease) {
                        held.extend_at = now + held.lasts / EXTEND_AFTER;
                    }
                }
                for (extend, outcome) in due.iter().zip(&outcomes.results) {
                    if outcome.status == Status::Lost && outcome.id == extend.lease.id {
                        all.remove(&extend.lease).inspect(|held| held.lost.cancel());
                    }
                }
            }
            Err(error) => {
                tracing::debug!(
                    event = "lease_extension_failed",
                    %error,
                    leases = due.len(),
                    "cannot extend the leases, retrying"
                );
                let again = Instant::now();
                for extend in &due {
                    if let Some(held) = all.get_mut(&extend.lease) {
                        let pause = (held.lasts / EXTEND_AFTER).min(RETRY_AFTER_MAX);
                        // Wait at least half of the pause, so that a server that is away is not flooded.
                        held.extend_at = again + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                    }
                }
            }
        }
    }

    /// The leases to extend now, and the duration of the shortest of them.
    fn due(&self, now: Instant) -> (Vec<Extend>, Duration) {
        let held = self.held();
        let due = held.iter().filter(|(_, held)| held.extend_at <= now + held.lasts / EXTEND_TOGETHER);
        let due: Vec<_> = due.take(BATCH_MAX).collect();
        let lasts = due.iter().map(|(_, held)| held.lasts).min().unwrap_or_default();
        let extend = |(lease, held): (&Lease, &HeldLease)| Extend {
            lease: lease.clone(),
            lease_ms: u64::try_from(held.lasts.as_millis()).unwrap_or(u64::MAX),
        };
        (due.into_iter().map(extend).collect(), lasts)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Lease, HeldLease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
