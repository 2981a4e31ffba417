//! The JSON of agents/queued/PROTOCOL.md, as far as this client sends and reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Returns a duration in the protocol's milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An item's body: text if it is UTF-8, else base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body {
    #[serde(rename = "body")]
    Text(String),
    #[serde(rename = "body_base64")]
    Base64(#[serde(with = "in_base64")] Vec<u8>),
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        String::from_utf8(bytes).map_or_else(|e| Body::Base64(e.into_bytes()), Body::Text)
    }
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Body::Text(text) => text.as_bytes(),
            Body::Base64(bytes) => bytes,
        }
    }
}

mod in_base64 {
    use super::{Deserialize, Engine, STANDARD};
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(Error::custom)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct PushItem {
    #[serde(flatten)]
    pub(crate) body: Body,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PushBatch<'a> {
    pub(crate) items: Vec<&'a PushItem>,
    pub(crate) seal: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PushAnswer {
    pub(crate) items: Vec<PushedItem>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PushedItem {
    pub(crate) id: String,
    pub(crate) duplicate: bool,
}

/// A lease, as ack, nack and extend name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) token: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Nack {
    #[serde(flatten)]
    pub(crate) lease: Lease,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) release: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Extend {
    #[serde(flatten)]
    pub(crate) lease: Lease,
    pub(crate) lease_ms: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct SettleBatch<'a, T> {
    pub(crate) items: &'a [T],
}

#[derive(Debug, Serialize)]
pub(crate) struct LeaseRequest<'a> {
    pub(crate) max: u32,
    pub(crate) wait_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lease_ms: Option<u64>,
    pub(crate) until: Until,
    pub(crate) worker: &'a str,
    pub(crate) ack: &'a [Lease],
    pub(crate) nack: &'a [Nack],
}

/// The state of the queue in which a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Until {
    /// Nothing is ready, delayed or leased, and the queue is sealed; or it held items and was never sealed
    Drained,
    /// Nothing is ready or delayed; other workers may still be busy
    Empty,
    /// Drained and sealed
    Sealed,
    /// Never: work until stopped
    Forever,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LeaseAnswer {
    pub(crate) items: Vec<Item>,
    pub(crate) done: bool,
    pub(crate) verdict: String,
    /// True if no item is leased until the queue is resumed.
    #[serde(default)]
    pub(crate) paused: bool,
    /// Items that died and were neither redriven nor deleted. Older servers do not send it.
    #[serde(default)]
    pub(crate) failed: u64,
    #[serde(default)]
    pub(crate) results: Vec<SettleResult>,
}

/// A leased item.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) attempt: u64,
    pub(crate) lease_ms: u64,
    pub(crate) key: Option<String>,
    #[serde(flatten)]
    pub(crate) body: Body,
}

impl Item {
    pub(crate) fn lease(&self) -> Lease {
        Lease { id: self.id.clone(), token: self.token.clone() }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Outcomes {
    pub(crate) results: Vec<SettleResult>,
}

/// The result of an ack, nack or extend. Results are in the order of the request.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SettleResult {
    pub(crate) id: String,
    pub(crate) status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    Lost,
    /// A nack of the last attempt.
    Dead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_of_the_protocol_page_is_read() {
        let text = r#"{"id":"5f","token":"9f2c","attempt":1,"pushed_at":"2026-11-21T09:47:20.123Z",
            "lease_ms":30000,"key":"k","content_type":"text/plain","body":"work-item-0"}"#;
        let item: Item = serde_json::from_str(text).unwrap();
        assert_eq!((item.body.bytes(), item.key.as_deref()), (&b"work-item-0"[..], Some("k")));
        let text = r#"{"id":"5f","token":"9f2c","attempt":1,"lease_ms":1,"body_base64":"/wA="}"#;
        let item: Item = serde_json::from_str(text).unwrap();
        assert_eq!(item.body.bytes(), [0xff, 0]);
    }

    #[test]
    fn binary_bodies_travel_as_base64() {
        let push = |bytes: &[u8]| PushItem { body: bytes.to_vec().into(), key: None, delay_ms: None };
        assert_eq!(serde_json::to_string(&push(b"a\n")).unwrap(), r#"{"body":"a\n"}"#);
        assert_eq!(serde_json::to_string(&push(&[0xff])).unwrap(), r#"{"body_base64":"/w=="}"#);
    }

    #[test]
    fn nack_is_written_flat() {
        let lease = Lease { id: "5f".into(), token: "9f".into() };
        let nack = Nack { lease, reason: None, release: true };
        assert_eq!(serde_json::to_string(&nack).unwrap(), r#"{"id":"5f","token":"9f","release":true}"#);
    }
}
