//! Parses the keys, queries and times to live of requests, and maps failures to errors of `/v1`.

use crate::store::key::{Key, KeyError};
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use kit::http::error_answer::ErrorAnswer;
use serde::de::DeserializeOwned;
use std::error::Error;

/// The part of the path before a key.
const KEYS: &str = "/v1/keys/";

/// Reads the key from a path: everything after `/v1/keys/`, percent-decoded.
pub fn key_of(uri: &Uri) -> Result<Key, ErrorAnswer> {
    let encoded = uri.path().strip_prefix(KEYS).unwrap_or_default();
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(encoded).collect();
    Key::from_bytes(&bytes).map_err(|error| bad_key(error, ErrorAnswer::bad_request))
}

/// Maps an invalid key to an answer: 414 if it is too long, else the one that `other` builds.
pub fn bad_key(error: KeyError, other: fn(String) -> ErrorAnswer) -> ErrorAnswer {
    match error {
        KeyError::TooLong(_) => ErrorAnswer::new(StatusCode::URI_TOO_LONG, "key_too_long", error.to_string()),
        _ => other(error.to_string()),
    }
}

/// Parses the query string. An error names the parameter.
pub fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ErrorAnswer> {
    let query = Query::<T>::try_from_uri(uri);
    query.map(|query| query.0).map_err(|rejected| {
        let why = rejected.source().map_or_else(|| rejected.body_text(), ToString::to_string);
        ErrorAnswer::invalid(format!("query parameter {why}"))
    })
}

/// Parses a time to live such as `30s`, and returns milliseconds.
pub fn ttl_ms(text: Option<&str>) -> Result<Option<u64>, ErrorAnswer> {
    let Some(text) = text else { return Ok(None) };
    let ttl = kit::settings::parse_nonzero_duration(text)
        .map_err(|expected| ErrorAnswer::invalid(format!("ttl {text:?}: {expected}")))?;
    u64::try_from(ttl.as_millis()).map(|ms| Some(ms.max(1))).map_err(|e| ErrorAnswer::invalid(e.to_string()))
}
