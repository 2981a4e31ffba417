//! `/v1/keys`: one key with its value and revision, and listings of keys.

use super::etag::{condition, etag};
use super::request::{key_of, query, ttl_ms};
use super::tokens::KeyRight;
use super::value_text::{KeyObject, time};
use super::{Doors, refusal_answer, refusal_response, store_error};
use crate::store::contract::KeyRange;
use crate::store::evaluation::{Action, Operation, OperationOutcome, Refusal, Transaction};
use crate::store::key::Key;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use kit::http::body::BodyRoom;
use kit::http::error_answer::{ErrorAnswer, json, json_text};
use serde::{Deserialize, Serialize};

/// The header with the time at which a key expires.
const EXPIRES: HeaderName = HeaderName::from_static("kvd-expires");

/// The number of keys in a page: without `?limit=`, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// Limit on the bytes of keys and values in a page. A page has at least one key.
const PAGE_BYTES_MAX: usize = 1 << 20;

fn no_such_key(key: &Key) -> ErrorAnswer {
    ErrorAnswer::new(StatusCode::NOT_FOUND, "no_such_key", format!("there is no key {key:?}"))
}

pub async fn show(State(doors): State<Doors>, uri: Uri, headers: HeaderMap) -> Result<Response, ErrorAnswer> {
    let scope = doors.permit(&headers, KeyRight::Read)?;
    let key = key_of(&uri)?;
    scope.check(&key)?;
    let condition = condition(&headers)?;
    doors.hot_keys.read(&key);
    let value = doors.keyspace.get(&key).await.map_err(|error| store_error(&error))?;
    let Some(value) = value else { return Err(no_such_key(&key)) };
    let mut response = if condition.holds(Some(value.revision)) {
        // The bytes are shared with the store in memory, or were read from the disk for this answer.
        let body = doors.answers.answer(Bytes::from_owner(value.bytes))?;
        let headers =
            [(header::CONTENT_TYPE, "application/octet-stream"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
        (headers, body).into_response()
    } else if condition.if_match.is_some_and(|matcher| !matcher.matches(Some(value.revision))) {
        let found = Some(value.revision);
        refusal_answer(&Refusal::ConditionFailed { operation: 0, key, found }).into_response()
    } else {
        StatusCode::NOT_MODIFIED.into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(value.revision));
    if let Some(expires) = value.expires_ms.and_then(|expires| HeaderValue::try_from(time(expires)).ok()) {
        response.headers_mut().insert(EXPIRES, expires);
    }
    Ok(response)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PutQuery {
    ttl: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

#[derive(Debug, Serialize)]
struct ChangedKey<'a> {
    key: &'a str,
    revision: u64,
}

pub async fn put(
    State(doors): State<Doors>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    let scope = doors.permit(&headers, KeyRight::Write)?;
    let key = key_of(&uri)?;
    scope.check(&key)?;
    let ttl_ms = ttl_ms(query::<PutQuery>(&uri)?.ttl.as_deref())?;
    let condition = condition(&headers)?;
    let body = doors.value_limit.receive(&headers, body, &doors.room).await?;
    let action = Action::Put { bytes: body[..].into(), ttl_ms };
    let operation = Operation { key: key.clone(), condition, action };
    let outcome = match change(&doors, operation, body.into_room()).await {
        Ok(outcome) => outcome,
        Err(refusal) => return Ok(refusal_response(&refusal)),
    };
    let status = if outcome.before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(changed(status, &key, outcome.revision.unwrap_or_default()))
}

pub async fn delete(
    State(doors): State<Doors>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    let scope = doors.permit(&headers, KeyRight::Write)?;
    let key = key_of(&uri)?;
    scope.check(&key)?;
    query::<NoQuery>(&uri)?;
    let operation = Operation { key: key.clone(), condition: condition(&headers)?, action: Action::Delete };
    let outcome = match change(&doors, operation, BodyRoom::default()).await {
        Ok(outcome) => outcome,
        Err(refusal) => return Ok(refusal_response(&refusal)),
    };
    let revision = outcome.revision.ok_or_else(|| no_such_key(&key))?;
    Ok(changed(StatusCode::OK, &key, revision))
}

fn changed(status: StatusCode, key: &Key, revision: u64) -> Response {
    let mut response = json(status, &ChangedKey { key, revision });
    response.headers_mut().insert(header::ETAG, etag(revision));
    response
}

/// Commits one operation, which has this share of the memory for requests.
pub(super) async fn change(
    doors: &Doors,
    operation: Operation,
    room: BodyRoom,
) -> Result<OperationOutcome, Refusal> {
    doors.hot_keys.write(&operation.key);
    let outcomes = doors.keyspace.commit(Transaction { operations: vec![operation] }, room).await?;
    Ok(outcomes.first().copied().unwrap_or(OperationOutcome { before: None, revision: None }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    values: bool,
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    /// The revision of the server when it read this page. Other pages may have later ones.
    revision: u64,
    keys: Vec<KeyObject<'a>>,
    /// The `after` parameter for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

pub async fn list(State(doors): State<Doors>, uri: Uri, headers: HeaderMap) -> Result<Response, ErrorAnswer> {
    let scope = doors.permit(&headers, KeyRight::Read)?;
    let wanted: ListQuery = query(&uri)?;
    scope.check(&wanted.prefix)?;
    let keys_max = wanted.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&keys_max) {
        return Err(ErrorAnswer::invalid(format!("query parameter limit: from 1 to {LIMIT_MAX}")));
    }
    let invalid = |error| super::request::bad_key(error, ErrorAnswer::invalid);
    let after = wanted.after.filter(|after| !after.is_empty());
    let after = after.map(|after| Key::new(&after)).transpose().map_err(invalid)?;
    let (prefix, keys_only) = (wanted.prefix.into(), !wanted.values);
    let range = KeyRange { prefix, after, keys_max, bytes_max: PAGE_BYTES_MAX, keys_only };
    let listed = doors.keyspace.list(range).await.map_err(|error| store_error(&error))?;
    let objects = listed.keys.iter().map(|(key, value)| KeyObject::new(key, value));
    let listing =
        Listing { revision: listed.revision, keys: objects.collect(), next: listed.next.as_deref() };
    let text = json_text(&listing).unwrap_or_default();
    let body = doors.answers.answer(text)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

#[derive(Debug, Serialize)]
struct StatsObject {
    engine: &'static str,
    revision: u64,
    keys: u64,
    /// Bytes of all keys and values.
    bytes: u64,
}

pub async fn stats(State(doors): State<Doors>, headers: HeaderMap) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, KeyRight::Read)?;
    let (usage, revision) = (doors.keyspace.usage(), doors.keyspace.revision());
    let stats =
        StatsObject { engine: doors.keyspace.engine(), revision, keys: usage.keys, bytes: usage.bytes };
    Ok(json(StatusCode::OK, &stats))
}
