//! Values and times in JSON. A value is text if it is UTF-8, else base64.

use crate::store::contract::ListedValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::num::NonZeroU64;

/// A value in JSON, as `value` or `value_base64`.
#[derive(Debug, Serialize)]
pub struct ValueText<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> ValueText<'a> {
    pub fn new(bytes: &'a [u8]) -> ValueText<'a> {
        match std::str::from_utf8(bytes) {
            Ok(text) => ValueText { value: Some(text), value_base64: None },
            Err(_) => ValueText { value: None, value_base64: Some(STANDARD.encode(bytes)) },
        }
    }
}

/// A key in listings and backups.
#[derive(Debug, Serialize)]
pub struct KeyObject<'a> {
    pub key: &'a str,
    pub revision: u64,
    /// The size of the value in bytes.
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(flatten)]
    pub value: Option<ValueText<'a>>,
}

impl<'a> KeyObject<'a> {
    pub fn new(key: &'a str, value: &'a ListedValue) -> KeyObject<'a> {
        KeyObject {
            key,
            revision: value.info.revision,
            bytes: value.info.bytes,
            expires: value.info.expires_ms.map(time),
            value: value.bytes.as_deref().map(ValueText::new),
        }
    }
}

/// Formats a time as RFC 3339 with milliseconds.
pub fn time(ms: NonZeroU64) -> String {
    let time = i64::try_from(ms.get()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", time.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_or_base64() {
        let json = |bytes: &[u8]| serde_json::to_string(&ValueText::new(bytes)).unwrap();
        assert_eq!(json(b"a\n\0"), r#"{"value":"a\n\u0000"}"#);
        assert_eq!(json(b"\xff"), r#"{"value_base64":"/w=="}"#);
    }

    #[test]
    fn times_have_milliseconds() {
        let of = |ms| time(NonZeroU64::new(ms).unwrap());
        assert_eq!(of(1_764_354_007_005), "2025-11-28T18:20:07.005Z");
        assert_eq!(of(u64::MAX), format!("{:.3}", jiff::Timestamp::MAX));
    }
}
