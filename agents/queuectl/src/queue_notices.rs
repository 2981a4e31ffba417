//! Logs once that a worker's queue does not exist or is paused, and once that it is back.

use crate::api::Client;
use crate::missing;
use crate::queue_name::QueueName;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The wait of a lease request while the state of the queue is unknown, short so that a mistyped name is
/// reported soon.
const WAIT_WHILE_UNKNOWN: Duration = Duration::from_secs(1);
/// The wait of a lease request for an item or the verdict, shorter than the idle limits of proxies.
const WAIT: Duration = Duration::from_secs(20);

/// The state of the queue, shared by the slots of a worker.
pub(crate) struct QueueNotices {
    queue: QueueName,
    state: Mutex<QueueState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    Unknown,
    Missing,
    Paused,
    Open,
}

impl QueueNotices {
    pub(crate) fn new(queue: QueueName) -> QueueNotices {
        QueueNotices { queue, state: Mutex::new(QueueState::Unknown) }
    }

    /// Returns the time that the next lease request waits.
    pub(crate) fn wait(&self) -> Duration {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state == QueueState::Unknown { WAIT_WHILE_UNKNOWN } else { WAIT }
    }

    /// Notes that the server has answered for this queue.
    pub(crate) fn exists(&self, is_paused: bool) {
        let queue = &self.queue;
        let now = if is_paused { QueueState::Paused } else { QueueState::Open };
        let before = self.change(now);
        if before == QueueState::Missing {
            tracing::info!(event = "queue_created", %queue, "the queue exists now");
        }
        if before == QueueState::Paused && !is_paused {
            tracing::info!(event = "queue_resumed", %queue, "the queue is resumed");
        }
        if before != QueueState::Paused && is_paused {
            tracing::warn!(
                event = "queue_paused",
                %queue,
                "queue {queue} is paused; waiting until `queuectl resume -q {queue}`"
            );
        }
    }

    /// Notes that the server does not know this queue.
    pub(crate) async fn missing(&self, client: &Client) {
        if self.change(QueueState::Missing) == QueueState::Missing {
            return;
        }
        let others = missing::advice(client, &self.queue).await;
        let queue = &self.queue;
        tracing::warn!(event = "queue_missing", %queue, "waiting for queue {queue} to be created{others}");
    }

    /// Sets the state, and returns the previous one.
    fn change(&self, to: QueueState) -> QueueState {
        std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), to)
    }
}
