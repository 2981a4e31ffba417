//! `/v1/watch`: changes as server-sent events, which a client resumes by revision.

use super::Doors;
use super::request::query;
use super::tokens::KeyRight;
use super::value_text::{ValueText, time};
use crate::keyspace::watcher::KeyWatcher;
use crate::store::contract::{Mutation, MutationKind, Revision};
use crate::store::ring::NotKept;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use kit::http::error_answer::ErrorAnswer;
use kit::http::events::{Source, TooMany};
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::VecDeque;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchQuery {
    #[serde(default)]
    prefix: String,
    after: Option<Revision>,
}

pub async fn watch(
    State(doors): State<Doors>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    let permit = doors.permit(&headers, KeyRight::Read)?;
    let wanted: WatchQuery = query(&uri)?;
    permit.key(&wanted.prefix)?;
    // A browser that connects again sends its last event; the address still has the first revision.
    let last_event = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let watcher = doors.keyspace.watch(&wanted.prefix, last_event.or(wanted.after));
    let watcher = watcher.map_err(|error| gone(&error))?;
    let follower = Follower {
        begun: Some(watcher.position()),
        sent: watcher.position(),
        watcher,
        stopping: doors.stopping.clone(),
        due: VecDeque::new(),
        is_over: false,
        _open: Open::new(&doors.metrics.watchers),
    };
    doors.streams.tell(follower).map_err(|TooMany(open)| {
        let message = format!("{open} streams of changes are open already (--max-watchers)");
        ErrorAnswer::new(StatusCode::TOO_MANY_REQUESTS, "too_many_watchers", message)
    })
}

fn gone(error: &NotKept) -> ErrorAnswer {
    let message = format!("{error}: list the keys again, and watch from the revision of the listing");
    ErrorAnswer::new(StatusCode::GONE, "revision_gone", message)
}

/// Counts an open stream.
struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Open {
        gauge.inc();
        Open(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Follower {
    /// The revision from which the stream begins, until it is sent.
    begun: Option<Revision>,
    sent: Revision,
    watcher: KeyWatcher,
    stopping: CancellationToken,
    due: VecDeque<Mutation>,
    /// True after the event that changes are missing.
    is_over: bool,
    _open: Open,
}

#[derive(Serialize)]
struct Event<'a> {
    key: &'a str,
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(flatten)]
    value: Option<ValueText<'a>>,
}

impl Source for Follower {
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
        event(&mutation)
    }

    fn id(&self) -> Option<String> {
        Some(self.sent.to_string())
    }
}

fn event(mutation: &Mutation) -> Option<(&'static str, String)> {
    let (name, expires, value) = match &mutation.kind {
        MutationKind::Put { bytes, expires_ms } => ("put", expires_ms.map(time), Some(ValueText::new(bytes))),
        MutationKind::Delete => ("delete", None, None),
        MutationKind::Expire => ("expire", None, None),
    };
    let event = Event { key: &mutation.key, revision: mutation.revision, expires, value };
    Some((name, serde_json::to_string(&event).ok()?))
}
