//! The JSON of kvd's API, as far as this client reads or sends it.

use crate::api::Only;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes that JSON writes as a backslash and one more.
const SHORT_ESCAPES: &[u8] = b"\n\r\t\"\\";

/// A value: text or base64, of which both can be received. Text is sent if the value is UTF-8 without control
/// characters other than line ends and tabs, each of which would take six bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WireValue {
    #[serde(rename = "value")]
    Text(String),
    #[serde(rename = "value_base64")]
    Base64(String),
}

impl WireValue {
    /// Returns the bytes; `None` if the base64 is invalid.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            WireValue::Text(text) => Some(text.clone().into_bytes()),
            WireValue::Base64(text) => STANDARD.decode(text).ok(),
        }
    }

    pub(crate) fn new(bytes: Vec<u8>) -> WireValue {
        if bytes.iter().any(|byte| byte.is_ascii_control() && !SHORT_ESCAPES.contains(byte)) {
            return WireValue::Base64(STANDARD.encode(bytes));
        }
        String::from_utf8(bytes)
            .map_or_else(|e| WireValue::Base64(STANDARD.encode(e.into_bytes())), WireValue::Text)
    }

    /// Returns the length as it is sent.
    pub(crate) fn len(&self) -> usize {
        let (WireValue::Text(text) | WireValue::Base64(text)) = self;
        text.len() + text.bytes().filter(|byte| SHORT_ESCAPES.contains(byte)).count()
    }
}

/// A key in a listing or a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireKey {
    pub(crate) key: String,
    pub(crate) revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    #[serde(flatten)]
    pub(crate) value: Option<WireValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WirePage {
    pub(crate) keys: Vec<WireKey>,
    #[serde(default)]
    pub(crate) next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireChanged {
    pub(crate) revision: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireStats {
    pub(crate) keys: u64,
}

/// The first line of a backup.
#[derive(Debug, Deserialize)]
pub(crate) struct BackupBegin {
    pub(crate) kvd_backup: u64,
}

/// The last line of a backup.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupEnd {
    pub(crate) keys: u64,
}

/// An operation of a batch.
#[derive(Debug, Serialize)]
pub(crate) struct WireOperation {
    pub(crate) op: &'static str,
    pub(crate) key: String,
    #[serde(flatten)]
    pub(crate) value: Option<WireValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) if_match: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) if_none_match: Option<&'static str>,
}

impl WireOperation {
    pub(crate) fn put(key: &str, value: WireValue, only: Only) -> WireOperation {
        WireOperation { value: Some(value), ..WireOperation::new("put", key.to_owned(), only) }
    }

    /// Deletes a key only if it has this revision.
    pub(crate) fn delete(key: &str, revision: u64) -> WireOperation {
        WireOperation::new("delete", key.to_owned(), Only::IfMatch(revision))
    }

    /// Changes nothing. Its result has the revision of the key.
    pub(crate) fn check(key: String) -> WireOperation {
        WireOperation::new("check", key, Only::Always)
    }

    fn new(op: &'static str, key: String, only: Only) -> WireOperation {
        let (if_match, if_none_match) = match only {
            Only::Always => (None, None),
            Only::IfMatch(revision) => (Some(revision), None),
            Only::IfAbsent => (None, Some("*")),
        };
        WireOperation { op, key, value: None, ttl: None, if_match, if_none_match }
    }

    /// Returns the length of key and value as they are sent.
    pub(crate) fn len(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, WireValue::len)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct WireBatch<'a> {
    pub(crate) operations: &'a [&'a WireOperation],
}

/// The answer to a batch that is done.
#[derive(Debug, Deserialize)]
pub(crate) struct WireBatchReply {
    pub(crate) results: Vec<WireResult>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireResult {
    /// The revision of the change, or the present one after a check. `None` if the key does not exist.
    pub(crate) revision: Option<u64>,
}

/// The answer to a batch of which a condition failed.
#[derive(Debug, Deserialize)]
pub(crate) struct WireConditionFailed {
    pub(crate) operation: usize,
}

/// Returns the milliseconds until a time in RFC 3339. Negative if it is over.
pub(crate) fn ttl_left_ms(expires: &str, now: Timestamp) -> Result<i128, jiff::Error> {
    Ok(expires.parse::<Timestamp>()?.duration_since(now).as_millis())
}
