//! Changes as server-sent events, for `/v1/watch` and the page.

use super::value_text::{ValueText, time};
use super::watch::gone;
use crate::keyspace::watcher::KeyWatcher;
use crate::store::contract::{Mutation, MutationKind, Revision};
use kit::http::events::Source;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use tokio_util::sync::CancellationToken;

/// Counts one open stream until it is dropped.
struct OpenStream(Gauge);

impl OpenStream {
    fn new(gauge: &Gauge) -> OpenStream {
        gauge.inc();
        OpenStream(gauge.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Follows a watcher, and sends each mutation as an event.
pub struct ChangeFollower {
    /// The revision at which the stream begins; `None` once it is sent.
    begun: Option<Revision>,
    sent: Revision,
    watcher: KeyWatcher,
    stopping: CancellationToken,
    due: VecDeque<Mutation>,
    /// True after the event that reports missing changes.
    is_over: bool,
    with_values: bool,
    _open: OpenStream,
}

impl ChangeFollower {
    pub fn new(watcher: KeyWatcher, stopping: CancellationToken, open: &Gauge) -> ChangeFollower {
        let (begun, sent) = (Some(watcher.position()), watcher.position());
        let due = VecDeque::new();
        ChangeFollower {
            begun,
            sent,
            watcher,
            stopping,
            due,
            is_over: false,
            with_values: true,
            _open: OpenStream::new(open),
        }
    }

    /// Leaves values out of the events.
    #[must_use]
    pub fn without_values(mut self) -> ChangeFollower {
        self.with_values = false;
        self
    }
}

#[derive(Serialize)]
struct ChangeEvent<'a> {
    key: &'a str,
    revision: Revision,
    /// The size of the value in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(flatten)]
    value: Option<ValueText<'a>>,
}

impl Source for ChangeFollower {
    async fn next(&mut self) -> Option<(&'static str, String)> {
        if let Some(revision) = self.begun.take() {
            return Some(("begin", json!({ "revision": revision }).to_string()));
        }
        if self.due.is_empty() && !self.is_over {
            match self.stopping.run_until_cancelled(self.watcher.next()).await? {
                Ok(mutations) => self.due.extend(mutations),
                Err(error) => {
                    self.is_over = true;
                    return Some(("gone", json!({ "message": gone(&error).message }).to_string()));
                }
            }
        }
        let mutation = self.due.pop_front()?;
        self.sent = mutation.revision;
        event(&mutation, self.with_values)
    }

    fn id(&self) -> Option<String> {
        Some(self.sent.to_string())
    }
}

fn event(mutation: &Mutation, with_value: bool) -> Option<(&'static str, String)> {
    let Mutation { key, revision, kind } = mutation;
    let mut event = ChangeEvent { key, revision: *revision, bytes: None, expires: None, value: None };
    let name = match kind {
        MutationKind::Put { bytes, expires_ms } => {
            event.bytes = Some(bytes.len());
            event.expires = expires_ms.map(time);
            event.value = with_value.then(|| ValueText::new(bytes));
            "put"
        }
        MutationKind::Delete => "delete",
        MutationKind::Expire => "expire",
    };
    Some((name, serde_json::to_string(&event).ok()?))
}
