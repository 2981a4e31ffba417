//! Requests of workers: lease, ack, nack, extend.

use super::request::Path;
use super::tokens::Right;
use super::{BodyText, Doors, Line, request, time};
use crate::engine::contract::{LeaseAnswer, LeaseRequest, Leased, SettleAction, Settled, Settlement, Until};
use crate::engine::item::{ItemId, Token};
use crate::engine::policy::{check_duration_ms, check_lease_ms, check_name};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kit::http::error_answer::ErrorAnswer;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const LEASES_MAX: usize = 1000;
const WAIT_MS_MAX: u64 = 300_000;
const WORKER_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseParams {
    #[serde(default = "one")]
    max: usize,
    #[serde(default)]
    wait_ms: u64,
    lease_ms: Option<u64>,
    #[serde(default)]
    until: Until,
    worker: Option<Box<str>>,
    #[serde(default)]
    ack: Vec<Ack>,
    #[serde(default)]
    nack: Vec<Nack>,
}

fn one() -> usize {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    id: String,
    token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nack {
    id: String,
    token: String,
    delay_ms: Option<u64>,
    reason: Option<Box<str>>,
    #[serde(default)]
    release: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extend {
    id: String,
    token: String,
    lease_ms: Option<u64>,
}

/// An ack, a nack or an extend, as written in a request.
pub trait Settles: serde::de::DeserializeOwned {
    fn settlement(self) -> Result<Settlement, String>;
}

impl Settles for Ack {
    fn settlement(self) -> Result<Settlement, String> {
        Ok(Settlement { id: self.id.parse()?, token: self.token.parse()?, action: SettleAction::Ack })
    }
}

impl Settles for Nack {
    fn settlement(self) -> Result<Settlement, String> {
        if self.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            return Err(format!("a reason has at most {REASON_BYTES_MAX} bytes"));
        }
        self.delay_ms.map(|delay_ms| check_duration_ms("delay_ms", delay_ms)).transpose()?;
        let reason = self.reason.filter(|reason| !reason.is_empty());
        let action = SettleAction::Nack { delay_ms: self.delay_ms, reason, release: self.release };
        Ok(Settlement { id: self.id.parse()?, token: self.token.parse()?, action })
    }
}

impl Settles for Extend {
    fn settlement(self) -> Result<Settlement, String> {
        let lease_ms = self.lease_ms.map(check_lease_ms).transpose()?;
        Ok(Settlement {
            id: self.id.parse()?,
            token: self.token.parse()?,
            action: SettleAction::Extend { lease_ms },
        })
    }
}

fn settlements<T: Settles>(wanted: Vec<T>) -> Result<Vec<Settlement>, ErrorAnswer> {
    if wanted.len() > LEASES_MAX {
        return Err(ErrorAnswer::invalid(format!("at most {LEASES_MAX} leases in one request")));
    }
    wanted.into_iter().map(T::settlement).collect::<Result<_, _>>().map_err(ErrorAnswer::invalid)
}

#[derive(Serialize)]
struct LeasedObject {
    id: ItemId,
    token: Token,
    attempt: u32,
    pushed_at: String,
    lease_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<Box<str>>,
    #[serde(flatten)]
    body: BodyText,
}

impl From<Leased> for LeasedObject {
    fn from(item: Leased) -> LeasedObject {
        LeasedObject {
            id: item.id,
            token: item.token,
            attempt: item.attempt,
            pushed_at: time(item.pushed_ms),
            lease_ms: item.lease_ms,
            key: item.key,
            content_type: item.content_type,
            body: item.body.into(),
        }
    }
}

#[derive(Serialize)]
struct LeaseObject {
    items: Vec<LeasedObject>,
    done: bool,
    verdict: &'static str,
    sealed: bool,
    paused: bool,
    ready: u64,
    delayed: u64,
    leased: u64,
    failed: u64,
    results: Vec<SettleResult>,
}

#[derive(Serialize)]
struct SettleResult {
    id: ItemId,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
}

fn outcomes(ids: &[ItemId], results: &[Settled]) -> Vec<SettleResult> {
    let outcome = |(id, settled): (&ItemId, &Settled)| {
        let (status, lease_ms) = match settled {
            Settled::Done => ("ok", None),
            Settled::Extended(lease_ms) => ("ok", Some(*lease_ms)),
            Settled::Dead => ("dead", None),
            Settled::Lost => ("lost", None),
        };
        SettleResult { id: *id, status, lease_ms }
    };
    ids.iter().zip(results).map(outcome).collect()
}

pub async fn lease(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, Right::Work)?;
    let params = request::json(&doors.body(&headers, body).await?)?;
    Ok(hand_out(&doors, &name, params).await?.into_response())
}

pub async fn hand_out(doors: &Doors, name: &str, params: LeaseParams) -> Result<Line, ErrorAnswer> {
    check_name(name).map_err(ErrorAnswer::invalid)?;
    if !(1..=LEASES_MAX).contains(&params.max) {
        return Err(ErrorAnswer::invalid(format!("max is from 1 to {LEASES_MAX}")));
    }
    if params.wait_ms > WAIT_MS_MAX {
        return Err(ErrorAnswer::invalid(format!("wait_ms is at most {WAIT_MS_MAX}")));
    }
    if params.worker.as_ref().is_some_and(|worker| worker.len() > WORKER_BYTES_MAX) {
        return Err(ErrorAnswer::invalid(format!("worker has at most {WORKER_BYTES_MAX} bytes")));
    }
    let lease_ms = params.lease_ms.map(check_lease_ms).transpose().map_err(ErrorAnswer::invalid)?;
    let mut all = settlements(params.ack)?;
    all.extend(settlements(params.nack)?);
    let ids: Vec<ItemId> = all.iter().map(|settlement| settlement.id).collect();
    let request = LeaseRequest {
        max: params.max,
        wait: Duration::from_millis(params.wait_ms),
        lease_ms,
        until: params.until,
        worker: params.worker.filter(|worker| !worker.is_empty()),
        bound: false,
        settlements: all,
    };
    let LeaseAnswer { items, done, verdict, sealed, paused, ready, delayed, leased, failed, results } =
        doors.engine.lease(name, request).await?;
    let leased_now: Vec<(ItemId, Token)> = items.iter().map(|item| (item.id, item.token)).collect();
    let answer = LeaseObject {
        items: items.into_iter().map(LeasedObject::from).collect(),
        done,
        verdict: verdict.name(),
        sealed,
        paused,
        ready,
        delayed,
        leased,
        failed,
        results: outcomes(&ids, &results),
    };
    let mut line = Line::new(StatusCode::OK, &answer);
    drop(answer);
    match doors.answers.hold(line.text.len()) {
        Ok(room) => line.room = room,
        Err(problem) => {
            // The client never learns of these leases. The release waits for the disk, and many of them must
            // not hold bodies.
            drop(line);
            let release = |(id, token)| Settlement { id, token, action: SettleAction::RELEASE };
            doors.engine.settle(name, leased_now.into_iter().map(release).collect()).await?;
            return Err(problem);
        }
    }
    Ok(line)
}

/// Parses one lease or a batch. The field `items` distinguishes them, so that errors name the right field.
pub fn settlements_in<T: Settles>(body: &[u8]) -> Result<Vec<Settlement>, ErrorAnswer> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SettleBatch<T> {
        items: Vec<T>,
    }
    let value: serde_json::Value = request::json(body)?;
    let data = |e: serde_json::Error| ErrorAnswer::invalid(e.to_string());
    settlements(match value.get("items") {
        Some(_) => serde_json::from_value::<SettleBatch<T>>(value).map_err(data)?.items,
        None => vec![serde_json::from_value::<T>(value).map_err(data)?],
    })
}

pub async fn settle(doors: &Doors, name: &str, settlements: Vec<Settlement>) -> Result<Line, ErrorAnswer> {
    #[derive(Serialize)]
    struct Answer {
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'static str>,
        results: Vec<SettleResult>,
    }
    let ids: Vec<ItemId> = settlements.iter().map(|settlement| settlement.id).collect();
    let results = doors.engine.settle(name, settlements).await?;
    let lost = results.contains(&Settled::Lost);
    let answer = Answer {
        error: lost.then_some("lost"),
        message: lost.then_some("at least one lease is no longer held"),
        results: outcomes(&ids, &results),
    };
    Ok(Line::new(if lost { StatusCode::CONFLICT } else { StatusCode::OK }, &answer))
}

async fn settle_body<T: Settles>(
    doors: Doors,
    name: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    doors.permit(headers, Right::Work)?;
    let bytes = doors.body(headers, body).await?;
    Ok(settle(&doors, name, settlements_in::<T>(&bytes)?).await?.into_response())
}

pub async fn ack(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    settle_body::<Ack>(doors, &name, &headers, body).await
}

pub async fn nack(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    settle_body::<Nack>(doors, &name, &headers, body).await
}

pub async fn extend(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    settle_body::<Extend>(doors, &name, &headers, body).await
}
