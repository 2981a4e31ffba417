//! `ETag`, `If-Match` and `If-None-Match`: revisions of keys in HTTP's notation.

use crate::store::contract::Revision;
use crate::store::evaluation::{Condition, Matcher};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use kit::http::error_answer::ErrorAnswer;

pub fn etag(revision: Revision) -> HeaderValue {
    // Digits in quotes are always a valid header value.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// Reads the conditions of a request.
pub fn condition(headers: &HeaderMap) -> Result<Condition, ErrorAnswer> {
    Ok(Condition {
        if_match: matcher(headers, &header::IF_MATCH)?,
        if_none_match: matcher(headers, &header::IF_NONE_MATCH)?,
    })
}

fn matcher(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Matcher>, ErrorAnswer> {
    let mut revisions = Vec::new();
    let mut is_given = false;
    for value in headers.get_all(name) {
        is_given = true;
        let wrong = || ErrorAnswer::bad_request(format!("{name}: expected *, or ETags such as \"17\""));
        let text = value.to_str().map_err(|_| wrong())?;
        if text.trim() == "*" {
            return Ok(Some(Matcher::Any));
        }
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            revisions.extend(revision(tag).map_err(|Malformed| wrong())?);
        }
    }
    Ok(is_given.then_some(Matcher::OneOf(revisions)))
}

struct Malformed;

/// Parses a tag, with or without its quotes. `None` for a tag of another server, which matches nothing.
fn revision(tag: &str) -> Result<Option<Revision>, Malformed> {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    match tag.strip_prefix('"') {
        Some(quoted) => Ok(quoted.strip_suffix('"').ok_or(Malformed)?.parse().ok()),
        None => tag.parse().map(Some).map_err(|_| Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Result<Option<Matcher>, u16> {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_static(value))]);
        condition(&headers).map(|condition| condition.if_match).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn conditions_are_read_as_http_writes_them() {
        let one_of = |revisions: &[u64]| Ok(Some(Matcher::OneOf(revisions.to_vec())));
        assert_eq!(read("*"), Ok(Some(Matcher::Any)));
        assert_eq!(read("\"17\""), one_of(&[17]));
        assert_eq!(read("17"), one_of(&[17]));
        assert_eq!(read("W/\"17\" , \"18\""), one_of(&[17, 18]));
        assert_eq!(read("\"of-another-server\""), one_of(&[]));
        assert_eq!(read(""), one_of(&[]));
        for wrong in ["\"17", "seventeen", "-1"] {
            assert_eq!(read(wrong), Err(400), "{wrong}");
        }
        assert_eq!(condition(&HeaderMap::new()).unwrap(), Condition::default());
        assert_eq!(etag(17), "\"17\"");
    }
}
