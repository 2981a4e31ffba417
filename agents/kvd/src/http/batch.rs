//! `/v1/batch`: operations that are applied together or not at all.

use super::request::ttl_ms;
use super::tokens::KeyRight;
use super::{Doors, refusal_response};
use crate::store::contract::Revision;
use crate::store::evaluation::{Action, Condition, Matcher, Operation, Transaction};
use crate::store::key::Key;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kit::http::body::BodyLimit;
use kit::http::error_answer::{ErrorAnswer, json};
use serde::{Deserialize, Serialize};

/// Limit on the operations in a batch.
const OPERATIONS_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest {
    operations: Vec<BatchOperation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Put,
    Delete,
    Check,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchOperation {
    op: Verb,
    key: String,
    value: Option<String>,
    value_base64: Option<String>,
    ttl: Option<String>,
    if_match: Option<RevisionMatch>,
    if_none_match: Option<RevisionMatch>,
}

/// A revision, or `"*"` for any.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a revision, or \"*\"")]
enum RevisionMatch {
    Revision(Revision),
    Any(Star),
}

#[derive(Debug, Deserialize)]
enum Star {
    #[serde(rename = "*")]
    Star,
}

impl From<RevisionMatch> for Matcher {
    fn from(wanted: RevisionMatch) -> Matcher {
        match wanted {
            RevisionMatch::Revision(revision) => Matcher::OneOf(vec![revision]),
            RevisionMatch::Any(Star::Star) => Matcher::Any,
        }
    }
}

impl BatchOperation {
    fn read(self, value_limit: BodyLimit) -> Result<Operation, ErrorAnswer> {
        let invalid = |why: &str| ErrorAnswer::invalid(why);
        let key = Key::new(&self.key).map_err(|error| invalid(&error.to_string()))?;
        let bytes = match (self.value, self.value_base64) {
            (Some(_), Some(_)) => return Err(invalid("either value or value_base64")),
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(text)) => {
                Some(STANDARD.decode(text).map_err(|e| invalid(&format!("value_base64: {e}")))?)
            }
            (None, None) => None,
        };
        if bytes.as_ref().is_some_and(|bytes| bytes.len() > value_limit.bytes_max) {
            return Err(value_limit.exceeded());
        }
        let ttl_ms = ttl_ms(self.ttl.as_deref())?;
        let action = match (self.op, bytes) {
            (Verb::Put, Some(bytes)) => Action::Put { bytes: bytes.into(), ttl_ms },
            (Verb::Put, None) => return Err(invalid("put needs value or value_base64")),
            (Verb::Delete, None) if ttl_ms.is_none() => Action::Delete,
            (Verb::Check, None) if ttl_ms.is_none() => Action::Check,
            _ => return Err(invalid("only put has a value or a ttl")),
        };
        let condition = Condition {
            if_match: self.if_match.map(Matcher::from),
            if_none_match: self.if_none_match.map(Matcher::from),
        };
        Ok(Operation { key, condition, action })
    }
}

#[derive(Debug, Serialize)]
struct BatchAnswer<'a> {
    results: Vec<BatchResult<'a>>,
}

#[derive(Debug, Serialize)]
struct BatchResult<'a> {
    key: &'a str,
    /// True if the key existed before.
    existed: bool,
    /// The revision of the change, or the present one for a check. `None` if the key does not exist.
    revision: Option<Revision>,
}

pub async fn batch(
    State(doors): State<Doors>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    let scope = doors.permit(&headers, KeyRight::Write)?;
    let body = doors.batch_limit.receive(&headers, body, &doors.room).await?;
    let batch: BatchRequest = serde_json::from_slice(&body).map_err(|error| match error.is_data() {
        true => ErrorAnswer::invalid(error.to_string()),
        false => ErrorAnswer::bad_request(format!("not JSON: {error}")),
    })?;
    if batch.operations.len() > OPERATIONS_MAX {
        return Err(ErrorAnswer::too_large(format!("a batch has at most {OPERATIONS_MAX} operations")));
    }
    let mut operations = Vec::with_capacity(batch.operations.len());
    for (index, operation) in batch.operations.into_iter().enumerate() {
        let operation = operation.read(doors.value_limit).map_err(|error| ErrorAnswer {
            message: format!("operations[{index}]: {}", error.message),
            ..error
        })?;
        scope.check(&operation.key)?;
        operations.push(operation);
    }
    for operation in operations.iter().filter(|operation| operation.action != Action::Check) {
        doors.hot_keys.write(&operation.key);
    }
    let keys: Vec<Key> = operations.iter().map(|operation| operation.key.clone()).collect();
    match doors.keyspace.commit(Transaction { operations }, body.into_room()).await {
        Ok(outcomes) => {
            let results = keys.iter().zip(outcomes).map(|(key, outcome)| BatchResult {
                key,
                existed: outcome.before.is_some(),
                revision: outcome.revision.or(outcome.before),
            });
            Ok(json(StatusCode::OK, &BatchAnswer { results: results.collect() }))
        }
        Err(refusal) => Ok(refusal_response(&refusal)),
    }
}
