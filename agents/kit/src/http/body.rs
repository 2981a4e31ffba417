//! Bodies within their limits: received whole, or kept in memory until their reader has them.

use super::error_answer::ErrorAnswer;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
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
    /// Creates room for `bytes`, and at least for `longest`: otherwise the longest body would wait forever.
    pub fn new(bytes: u64, longest: usize) -> BodyBudget {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).max(longest);
        BodyBudget(Arc::new(Semaphore::new((bytes / 1024 + 1).min(Semaphore::MAX_PERMITS))))
    }

    /// Makes the body of an answer that is in memory already, or refuses it.
    pub fn answer(&self, text: impl Into<Bytes>) -> Result<Body, ErrorAnswer> {
        self.part(text).map(Body::from)
    }

    /// Makes a part of an answer that is in memory already, or refuses it.
    pub fn part(&self, text: impl Into<Bytes>) -> Result<Bytes, ErrorAnswer> {
        let text = text.into();
        let room = self.hold(text.len())?;
        Ok(with_room(text, room))
    }

    /// Reserves room for an answer, or refuses: the answer is already in memory, so waiting would save
    /// nothing.
    pub fn hold(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ErrorAnswer> {
        if bytes <= SHORT_BYTES {
            return Ok(None);
        }
        self.0
            .clone()
            .try_acquire_many_owned(permits(bytes))
            .map(Some)
            .map_err(|_| ErrorAnswer::unavailable("too many long answers are still being read; try again"))
    }

    /// Waits for room for a request.
    pub async fn take(&self, bytes: usize) -> Result<BodyRoom, ErrorAnswer> {
        if bytes <= SHORT_BYTES {
            return Ok(BodyRoom::default());
        }
        match tokio::time::timeout(BODY_WITHIN, self.0.clone().acquire_many_owned(permits(bytes))).await {
            Ok(Ok(permit)) => Ok(BodyRoom { _permit: Some(permit) }),
            _ => Err(ErrorAnswer::unavailable("too many long requests at once; try again")),
        }
    }
}

/// The share of a budget that a request has. Dropping it returns the share.
#[derive(Debug, Default)]
pub struct BodyRoom {
    _permit: Option<OwnedSemaphorePermit>,
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

/// An answer's text with its share of the budget. Dropping the text returns the share.
struct BudgetedBytes {
    text: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for BudgetedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// Returns a body that keeps its room until it is read or dropped.
pub fn held(text: impl Into<Bytes>, room: Option<OwnedSemaphorePermit>) -> Body {
    Body::from(with_room(text.into(), room))
}

fn with_room(text: Bytes, room: Option<OwnedSemaphorePermit>) -> Bytes {
    match room {
        Some(room) => Bytes::from_owner(BudgetedBytes { text, _room: room }),
        None => text,
    }
}

/// A received body with its share of the budget. Dropping the body returns the share.
#[derive(Debug)]
pub struct ReceivedBody {
    bytes: Bytes,
    room: BodyRoom,
}

impl ReceivedBody {
    /// Drops the bytes, and returns their share for a copy that lives longer.
    pub fn into_room(self) -> BodyRoom {
        self.room
    }
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The longest permitted body: its name in messages, and the flag that sets the limit.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    pub what: &'static str,
    pub flag: &'static str,
    pub bytes_max: usize,
}

impl BodyLimit {
    pub fn exceeded(self) -> ErrorAnswer {
        ErrorAnswer::too_large(format!("{} has at most {} bytes ({})", self.what, self.bytes_max, self.flag))
    }

    /// Receives the whole body: waits for room, then enforces the limit and the timeout.
    pub async fn receive(
        self,
        headers: &HeaderMap,
        body: Body,
        room: &BodyBudget,
    ) -> Result<ReceivedBody, ErrorAnswer> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.bytes_max) {
            return Err(self.exceeded());
        }
        let room = room.take(announced.unwrap_or(self.bytes_max)).await?;
        match tokio::time::timeout(BODY_WITHIN, to_bytes(body, self.bytes_max)).await {
            Ok(Ok(bytes)) => Ok(ReceivedBody { bytes, room }),
            Ok(Err(error)) if is_too_long(&error) => Err(self.exceeded()),
            Ok(Err(error)) => Err(ErrorAnswer::bad_request(format!("the body ended early: {error}"))),
            Err(_) => {
                let message = format!("the body did not come within {} s", BODY_WITHIN.as_secs());
                Err(ErrorAnswer::new(StatusCode::REQUEST_TIMEOUT, "timeout", message))
            }
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
