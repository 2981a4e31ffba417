//! Parses requests: JSON, queries and paths with the protocol's errors.

use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::request::Parts;
use kit::http::error_answer::ErrorAnswer;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::error::Error;

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
