//! `/v1/watch`: changes as server-sent events. A client resumes by revision.

use super::Doors;
use super::follower::{ChangeFollower, StreamGuard};
use super::request::query;
use super::tokens::KeyRight;
use crate::store::contract::Revision;
use crate::store::ring::NotKept;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use kit::http::error_answer::ErrorAnswer;
use kit::http::events::TooMany;
use serde::Deserialize;

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
    let scope = doors.permit(&headers, KeyRight::Read)?;
    let wanted: WatchQuery = query(&uri)?;
    scope.check(&wanted.prefix)?;
    // A browser that reconnects sends the id of its last event. Its URL still has the first revision, so the
    // id wins.
    let last_event = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let watcher = doors.keyspace.watch(&wanted.prefix, last_event.or(wanted.after)).await;
    let watcher = watcher.map_err(|error| gone(&error))?;
    let guard = StreamGuard::new(doors.tokens.clone(), &headers, &wanted.prefix);
    let stopping = doors.drain.stopping().clone();
    let follower = ChangeFollower::new(watcher, stopping, &doors.metrics.watchers).guarded(guard);
    doors.streams.tell(follower).map_err(|TooMany(open)| {
        let message = format!("{open} streams of changes are open already (--max-watchers)");
        ErrorAnswer::new(StatusCode::TOO_MANY_REQUESTS, "too_many_watchers", message)
    })
}

pub fn gone(error: &NotKept) -> ErrorAnswer {
    let message = format!("{error}: list the keys again, and watch from the revision of the listing");
    ErrorAnswer::new(StatusCode::GONE, "revision_gone", message)
}
