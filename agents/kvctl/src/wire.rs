//! The JSON of kvd's API, as far as this client reads or sends it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
#[serde(deny_unknown_fields)]
pub(crate) struct BackupBegin {
    pub(crate) kvd_backup: u64,
    #[allow(dead_code, reason = "the line has it; nothing is restored from it")]
    pub(crate) revision: u64,
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
    pub(crate) if_match: Option<WireMatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) if_none_match: Option<WireMatch>,
}

impl WireOperation {
    pub(crate) fn put(key: &str, value: WireValue) -> WireOperation {
        let (op, key, value) = ("put", key.to_owned(), Some(value));
        WireOperation { op, key, value, ttl: None, if_match: None, if_none_match: None }
    }

    /// Deletes a key only if it has this revision.
    pub(crate) fn delete(key: &str, revision: u64) -> WireOperation {
        let if_match = Some(WireMatch::Revision(revision));
        let (op, key) = ("delete", key.to_owned());
        WireOperation { op, key, value: None, ttl: None, if_match, if_none_match: None }
    }

    /// Returns the length of key and value as they are sent.
    pub(crate) fn len(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, WireValue::len)
    }
}

/// A revision, or `*` for any revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum WireMatch {
    Revision(u64),
    Any(char),
}

impl WireMatch {
    pub(crate) fn any() -> WireMatch {
        WireMatch::Any('*')
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct WireBatch<'a> {
    pub(crate) operations: &'a [WireOperation],
}
