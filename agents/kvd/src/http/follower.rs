//! Changes as server-sent events, for `/v1/watch` and the page.

use super::tokens::{self, KeyRight, KeyTokens};
use super::value_text::{ValueText, time};
use super::watch::gone;
use crate::keyspace::watcher::KeyWatcher;
use crate::store::contract::{Mutation, MutationKind, Revision};
use crate::store::ring::NotKept;
use axum::http::HeaderMap;
use kit::http::events::Source;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch as latest;
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

/// Checks that the token of an open stream is still valid.
pub struct StreamGuard {
    tokens: latest::Receiver<KeyTokens>,
    authorization: Option<String>,
    prefix: String,
}

impl StreamGuard {
    pub fn new(tokens: latest::Receiver<KeyTokens>, headers: &HeaderMap, prefix: &str) -> StreamGuard {
        let authorization = super::authorization(headers).map(str::to_owned);
        StreamGuard { tokens, authorization, prefix: prefix.to_owned() }
    }

    /// Returns when the changed tokens do not permit this stream any more. Cancel-safe.
    async fn revoked(&mut self) {
        // The sender is gone if the server asks for no tokens, or stops.
        while self.tokens.changed().await.is_ok() {
            let tokens = self.tokens.borrow_and_update();
            let scope = tokens::permit(&tokens, self.authorization.as_deref(), KeyRight::Read);
            if scope.and_then(|scope| scope.check(&self.prefix)).is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Interval of the events that tell a watcher its position while no key with its prefix changes. The position
/// must not become older than the history of changes.
const AT_EVERY: Duration = Duration::from_secs(10);

/// Follows a watcher, and sends each mutation as an event.
pub struct ChangeFollower {
    /// True once the event with the first revision is sent.
    has_begun: bool,
    sent: Revision,
    watcher: KeyWatcher,
    guard: Option<StreamGuard>,
    stopping: CancellationToken,
    due: VecDeque<Mutation>,
    /// True after the event that reports missing changes.
    is_over: bool,
    with_values: bool,
    at_every: Duration,
    _open: OpenStream,
}

impl ChangeFollower {
    pub fn new(watcher: KeyWatcher, stopping: CancellationToken, open: &Gauge) -> ChangeFollower {
        ChangeFollower {
            has_begun: false,
            sent: watcher.position(),
            watcher,
            guard: None,
            stopping,
            due: VecDeque::new(),
            is_over: false,
            with_values: true,
            at_every: AT_EVERY,
            _open: OpenStream::new(open),
        }
    }

    /// Ends the stream when its token is revoked.
    #[must_use]
    pub fn guarded(self, guard: StreamGuard) -> ChangeFollower {
        ChangeFollower { guard: Some(guard), ..self }
    }

    /// Leaves values out of the events.
    #[must_use]
    pub fn without_values(mut self) -> ChangeFollower {
        self.with_values = false;
        self
    }

    /// Waits for mutations, or for the time of the next `at`. `None` if the stream ends.
    async fn look(&mut self) -> Option<Result<Vec<Mutation>, NotKept>> {
        let ChangeFollower { guard, watcher, stopping, at_every, .. } = self;
        let revoked = async {
            match guard {
                Some(guard) => guard.revoked().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopping.cancelled() => None,
            () = revoked => None,
            found = tokio::time::timeout(*at_every, watcher.next()) => {
                Some(found.unwrap_or(Ok(Vec::new())))
            }
        }
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
        let position = |revision: Revision| json!({ "revision": revision }).to_string();
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some(("begin", position(self.sent)));
        }
        while self.due.is_empty() && !self.is_over {
            match self.look().await? {
                Ok(mutations) => self.due.extend(mutations),
                Err(error) => {
                    self.is_over = true;
                    return Some(("gone", json!({ "message": gone(&error).message }).to_string()));
                }
            }
            if self.due.is_empty() && self.watcher.position() > self.sent {
                self.sent = self.watcher.position();
                return Some(("at", position(self.sent)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Keyspace;
    use crate::store::evaluation::{Action, Condition, Operation, Transaction};
    use crate::store::key::Key;
    use crate::store::memory::MemoryStore;
    use kit::http::body::BodyRoom;
    use std::sync::Arc;

    #[tokio::test]
    async fn watcher_of_a_quiet_prefix_resumes_after_many_other_changes() {
        let (keyspace, _end) = Keyspace::start_for_test(Arc::new(MemoryStore::starting_at(0)));
        let watcher = keyspace.watch("quiet/", None).await.unwrap();
        let mut follower = ChangeFollower::new(watcher, CancellationToken::new(), &Gauge::default());
        follower.at_every = Duration::from_millis(1);
        let begin = follower.next().await.unwrap();
        assert_eq!(begin, ("begin", r#"{"revision":0}"#.to_owned()));
        // Together these are more than the history.
        for revision in 1..=20 {
            let key = Key::new("busy").unwrap();
            let action = Action::Put { bytes: vec![0; 200_000].into(), ttl_ms: None };
            let operations = vec![Operation { key, condition: Condition::default(), action }];
            keyspace.commit(Transaction { operations }, BodyRoom::default()).await.unwrap();
            let at = follower.next().await.unwrap();
            assert_eq!(at, ("at", format!(r#"{{"revision":{revision}}}"#)));
            assert_eq!(follower.id(), Some(revision.to_string()));
        }
        assert!(keyspace.watch("quiet/", Some(0)).await.is_err());
        assert!(keyspace.watch("quiet/", Some(20)).await.is_ok());
    }
}
