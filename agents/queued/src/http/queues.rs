//! Queues: made, configured, looked at, sealed, drained, deleted.

use super::refusal::Problem;
use super::request::{Path, Query};
use super::tokens::Right;
use super::{BodyText, Doors, json, request, time};
use crate::engine::contract::{Engine, ItemView, Look, QueueView};
use crate::engine::item::{ItemId, State as ItemState};
use crate::engine::policy::{Policy, PolicyChange};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// A queue as the protocol shows it.
#[derive(Serialize)]
pub struct QueueObject {
    name: Box<str>,
    verdict: &'static str,
    sealed: bool,
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

#[derive(Serialize)]
struct ItemObject {
    id: String,
    state: &'static str,
    attempts: u32,
    pushed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<Box<str>>,
    /// How long the body is, where not all of it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(flatten)]
    body: BodyText,
}

impl ItemObject {
    /// With no more of the body than `cut` bytes.
    fn cut(mut view: ItemView, cut: usize) -> ItemObject {
        let len = view.body.len();
        view.body = begin(view.body, cut);
        let bytes = (view.body.len() < len).then_some(len);
        ItemObject { bytes, ..ItemObject::from(view) }
    }
}

/// The first bytes, and no half character of what is text.
fn begin(body: Box<[u8]>, max: usize) -> Box<[u8]> {
    if body.len() <= max {
        return body;
    }
    let end = std::str::from_utf8(&body).map_or(max, |text| text.floor_char_boundary(max));
    body.iter().take(end).copied().collect()
}

impl From<ItemView> for ItemObject {
    fn from(view: ItemView) -> ItemObject {
        ItemObject {
            id: view.id.to_string(),
            state: view.state.name(),
            attempts: view.attempts,
            pushed_at: time(view.pushed_ms),
            due_ms: view.due_ms,
            worker: view.worker,
            reason: view.reason,
            key: view.key,
            content_type: view.content_type,
            bytes: None,
            body: view.body.into(),
        }
    }
}

pub async fn list<E: Engine>(State(doors): State<Doors<E>>, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        queues: Vec<QueueObject>,
    }
    doors.permit(&headers, Right::Read)?;
    let queues = doors.engine.queues().await?.into_iter().map(QueueObject::from).collect();
    Ok(json(StatusCode::OK, &Answer { queues }))
}

pub async fn show<E: Engine>(
    State(doors): State<Doors<E>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    doors.permit(&headers, Right::Read)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.queue(&name).await?)))
}

pub async fn configure<E: Engine>(
    State(doors): State<Doors<E>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    doors.permit_new(&headers, Right::PushOrAdmin)?;
    let change: PolicyChange = request::json(&doors.body(&headers, body).await?)?;
    let (created, view) = doors.engine.configure(&name, change).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &QueueObject::from(view)))
}

pub async fn delete<E: Engine>(
    State(doors): State<Doors<E>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    doors.permit_new(&headers, Right::Admin)?;
    doors.engine.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub async fn drain<E: Engine>(
    State(doors): State<Doors<E>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        removed: u64,
    }
    doors.permit_new(&headers, Right::Admin)?;
    Ok(json(StatusCode::OK, &Answer { removed: doors.engine.drain(&name).await? }))
}

pub async fn seal<E: Engine>(
    State(doors): State<Doors<E>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    doors.permit_new(&headers, Right::Push)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.seal(&name, true).await?)))
}

pub async fn unseal<E: Engine>(
    State(doors): State<Doors<E>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    doors.permit_new(&headers, Right::Push)?;
    Ok(json(StatusCode::OK, &QueueObject::from(doors.engine.seal(&name, false).await?)))
}

/// Which items to show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    state: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
    cut: Option<u32>,
}

/// One request's answer stays within a bound even if every item is as large as it may be.
const ITEMS_MAX: usize = 1000;

impl Which {
    fn look(&self) -> Result<Look, Problem> {
        let state = match self.state.as_deref() {
            None => None,
            Some(name) => {
                let known = ItemState::ALL.into_iter().find(|state| state.name() == name);
                let known = known.ok_or_else(|| Problem::invalid("state is ready, delayed, leased or dead"));
                Some(known?)
            }
        };
        let limit = self.limit.unwrap_or(10);
        if !(1..=ITEMS_MAX).contains(&limit) {
            return Err(Problem::invalid(format!("limit is from 1 to {ITEMS_MAX}")));
        }
        let after = self.after.as_deref().map(str::parse::<ItemId>).transpose().map_err(Problem::invalid)?;
        Ok(Look { state, limit, after })
    }
}

/// The items that the query asks for; `state` goes before the one that it names.
pub async fn show_items<E: Engine>(
    engine: &E,
    name: &str,
    which: &Which,
    state: Option<ItemState>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        items: Vec<ItemObject>,
    }
    let asked = which.look()?;
    let look = Look { state: state.or(asked.state), ..asked };
    let cut = which.cut.and_then(|cut| usize::try_from(cut).ok()).unwrap_or(usize::MAX);
    let items = engine.look(name, look).await?.into_iter().map(|view| ItemObject::cut(view, cut)).collect();
    Ok(json(StatusCode::OK, &Answer { items }))
}

pub async fn items<E: Engine>(
    State(doors): State<Doors<E>>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    doors.permit(&headers, Right::Read)?;
    show_items(&doors.engine, &name, &which, None).await
}

pub async fn item<E: Engine>(
    State(doors): State<Doors<E>>,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    doors.permit(&headers, Right::Read)?;
    let id = id.parse().map_err(Problem::invalid)?;
    Ok(json(StatusCode::OK, &ItemObject::from(doors.engine.item(&name, id).await?)))
}

pub async fn stats<E: Engine>(
    State(doors): State<Doors<E>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
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
