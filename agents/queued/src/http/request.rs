//! Parses requests: bodies within their limits, JSON, queries and paths with the protocol's errors.

use super::error_answer::ErrorAnswer;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::error::Error;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Time limit for receiving a body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Bodies up to this length do not count against a [`BodyBudget`].
const SHORT_BYTES: usize = 4 << 10;

/// Limits, in KiB, the bodies of all requests that are being received, or of all answers that are being read.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// Creates room for `bytes`, and at least for `longest`: otherwise the longest request would wait
    /// forever.
    pub fn new(bytes: u64, longest: usize) -> BodyBudget {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).max(longest);
        BodyBudget(Arc::new(Semaphore::new((bytes / 1024 + 1).min(Semaphore::MAX_PERMITS))))
    }

    /// Reserves room for an answer, or refuses: the answer is already in memory, so waiting would save
    /// nothing.
    pub fn hold(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ErrorAnswer> {
        if bytes <= SHORT_BYTES {
            return Ok(None);
        }
        self.0.clone().try_acquire_many_owned(permits(bytes)).map(Some).map_err(|_| {
            let message = "too many long answers are still being read; try again";
            ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        })
    }

    async fn take(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ErrorAnswer> {
        if bytes <= SHORT_BYTES {
            return Ok(None);
        }
        let permits = permits(bytes);
        match tokio::time::timeout(BODY_WITHIN, self.0.clone().acquire_many_owned(permits)).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(ErrorAnswer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "too many long requests at once; try again",
            )),
        }
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

/// A body with its share of the room. Dropping the body returns the share.
#[derive(Debug)]
pub struct Taken {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Deref for Taken {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The longest permitted body, and the flag that sets it.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Limit on a body that is one item.
    Item(usize),
    /// Limit on any other body.
    Request(usize),
}

impl Limit {
    fn bytes_max(self) -> usize {
        match self {
            Limit::Item(bytes_max) | Limit::Request(bytes_max) => bytes_max,
        }
    }

    pub fn exceeded(self) -> ErrorAnswer {
        ErrorAnswer::too_large(match self {
            Limit::Item(max) => format!("an item has at most {max} bytes (--max-item-bytes)"),
            Limit::Request(max) => {
                format!("the body of a request has at most {max} bytes (--max-request-bytes)")
            }
        })
    }
}

/// Receives the whole body: waits for room, then enforces the limit and the timeout.
pub async fn body(
    headers: &HeaderMap,
    body: Body,
    limit: Limit,
    room: &BodyBudget,
) -> Result<Taken, ErrorAnswer> {
    let bytes_max = limit.bytes_max();
    let too_large = || limit.exceeded();
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > bytes_max) {
        return Err(too_large());
    }
    let room = room.take(announced.unwrap_or(bytes_max)).await?;
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(Taken { bytes, _room: room }),
        Ok(Err(error)) if is_too_long(&error) => Err(too_large()),
        Ok(Err(error)) => Err(ErrorAnswer::bad_request(format!("the body ended early: {error}"))),
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY_WITHIN.as_secs());
            Err(ErrorAnswer::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
        }
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Parses a JSON object; an empty body is `{}`.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorAnswer> {
    let bytes = bytes.trim_ascii();
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    // Derived deserializers accept an array of the fields in order, which no client means.
    if !bytes.starts_with(b"{") {
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => ErrorAnswer::invalid("expected a JSON object"),
            Err(error) => ErrorAnswer::bad_request(format!("not JSON: {error}")),
        });
    }
    serde_json::from_slice(bytes).map_err(|error| match error.is_data() {
        true => ErrorAnswer::invalid(error.to_string()),
        false => ErrorAnswer::bad_request(format!("not JSON: {error}")),
    })
}

/// Extracts the query string; an error names the parameter.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ErrorAnswer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, ErrorAnswer> {
        let query: Result<axum::extract::Query<T>, QueryRejection> =
            axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Query(query.0)).map_err(|rejected| {
            let why = rejected.source().map_or_else(|| rejected.body_text(), ToString::to_string);
            ErrorAnswer::invalid(format!("query parameter {why}"))
        })
    }
}

/// Extracts the variable parts of the path, with the protocol's errors.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ErrorAnswer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, ErrorAnswer> {
        let path: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|path| Path(path.0)).map_err(|e| ErrorAnswer::bad_request(e.body_text()))
    }
}
