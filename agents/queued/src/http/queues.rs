//! Requests about queues: create, configure, show, seal, pause, drain, delete.

use super::request::Path;
use super::tokens::Right;
use super::{Doors, json, request};
use crate::engine::contract::QueueView;
use crate::engine::item::ItemState;
use crate::engine::policy::{Policy, PolicyChange};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kit::http::error_answer::ErrorAnswer;
use serde::Serialize;

/// A queue as the protocol shows it.
#[derive(Serialize)]
pub struct QueueObject {
    name: Box<str>,
    verdict: &'static str,
    sealed: bool,
    paused: bool,
    backlog: u64,
    ready: u64,
    delayed: u64,
    leased: u64,
    dead: u64,
    failed: u64,
    bytes: u64,
    oldest_ready_ms: Option<u64>,
    pushed: u64,
    leases: u64,
    acked: u64,
    nacked: u64,
    expired: u64,
    died: u64,
    removed: u64,
    waiting: u64,
    settings: Policy,
}

impl From<QueueView> for QueueObject {
    fn from(view: QueueView) -> QueueObject {
        QueueObject {
            verdict: view.verdict.name(),
            sealed: view.sealed,
            paused: view.paused,
            backlog: view.backlog(),
            ready: view.tally(ItemState::Ready),
            delayed: view.tally(ItemState::Delayed),
            leased: view.tally(ItemState::Leased),
            dead: view.tally(ItemState::Dead),
            failed: view.failed,
            bytes: view.bytes,
            oldest_ready_ms: view.oldest_ready_ms,
            pushed: view.counters.pushed,
            leases: view.counters.leases,
            acked: view.counters.acked,
            nacked: view.counters.nacked,
            expired: view.counters.expired,
            died: view.counters.died,
            removed: view.counters.removed,
            waiting: view.waiting,
            settings: view.policy,
            name: view.name,
        }
    }
}

pub async fn list(State(doors): State<Doors>, headers: HeaderMap) -> Result<Response, ErrorAnswer> {
    #[derive(Serialize)]
    struct Answer {
        queues: Vec<QueueObject>,
    }
    doors.permit(&headers, Right::Read)?;
    let queues = doors.engine.queues().await?.into_iter().map(QueueObject::from).collect();
    Ok(json(StatusCode::OK, &Answer { queues }))
}

pub async fn show(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, Right::Read)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.queue(&name).await?)))
}

pub async fn configure(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::PushOrAdmin)?;
    let change: PolicyChange = request::json(&doors.body(&headers, body).await?)?;
    let (created, view) = doors.engine.configure(&name, change).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &QueueObject::from(view)))
}

pub async fn delete(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Admin)?;
    doors.engine.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub async fn drain(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    #[derive(Serialize)]
    struct Answer {
        removed: u64,
    }
    doors.permit_new(&headers, Right::Admin)?;
    Ok(json(StatusCode::OK, &Answer { removed: doors.engine.drain(&name).await? }))
}

pub async fn seal(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Push)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.seal(&name, true).await?)))
}

pub async fn unseal(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Push)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.seal(&name, false).await?)))
}

pub async fn pause(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Admin)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.pause(&name, true).await?)))
}

pub async fn resume(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Admin)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.pause(&name, false).await?)))
}

pub async fn stats(State(doors): State<Doors>, headers: HeaderMap) -> Result<Response, ErrorAnswer> {
    #[derive(Serialize)]
    struct Answer {
        queues: usize,
        ready: u64,
        delayed: u64,
        leased: u64,
        dead: u64,
        failed: u64,
        backlog: u64,
        bytes: u64,
        durability: &'static str,
        memory_bytes: u64,
        memory_bytes_max: u64,
        log_bytes: u64,
    }
    doors.permit(&headers, Right::Read)?;
    let (queues, engine) = (doors.engine.queues().await?, doors.engine.view().await?);
    let sum = |figure: &dyn Fn(&QueueView) -> u64| queues.iter().map(figure).sum();
    let in_state = |state| sum(&|queue| queue.tally(state));
    let answer = Answer {
        queues: queues.len(),
        ready: in_state(ItemState::Ready),
        delayed: in_state(ItemState::Delayed),
        leased: in_state(ItemState::Leased),
        dead: in_state(ItemState::Dead),
        failed: sum(&|queue| queue.failed),
        backlog: sum(&QueueView::backlog),
        bytes: sum(&|queue| queue.bytes),
        durability: engine.durability,
        memory_bytes: engine.memory_bytes,
        memory_bytes_max: engine.memory_bytes_max,
        log_bytes: engine.log_bytes,
    };
    Ok(json(StatusCode::OK, &answer))
}
