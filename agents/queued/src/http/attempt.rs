//! The JSON of one attempt of an item.

use super::time;
use crate::engine::attempts::{Attempt, Fate};
use serde::Serialize;

#[derive(Default, Serialize)]
pub struct AttemptObject {
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leased_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fate: Option<&'static str>,
}

impl From<Attempt> for AttemptObject {
    fn from(Attempt { number, worker, leased_ms, end }: Attempt) -> AttemptObject {
        let leased_at = leased_ms.map(time);
        let lease = AttemptObject { attempt: number, worker, leased_at, ..AttemptObject::default() };
        let Some(end) = end else { return lease };
        AttemptObject {
            ended_at: end.at_ms.map(time),
            ended: Some(end.how.name()),
            reason: end.reason,
            fate: end.fate.map(Fate::name),
            ..lease
        }
    }
}
