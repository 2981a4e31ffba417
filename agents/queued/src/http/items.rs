//! Requests about items: list, search, show, and delete or move by id.

use super::attempt::AttemptObject;
use super::request::{Path, Query};
use super::tokens::Right;
use super::{BodyText, Doors, json, request, time};
use crate::engine::contract::{ItemView, Look, Looked};
use crate::engine::item::{ItemId, ItemState};
use crate::service::Engine;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use kit::http::error_answer::ErrorAnswer;
use serde::{Deserialize, Serialize};

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
    /// The body's full length, if the body is cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(flatten)]
    body: BodyText,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<AttemptObject>,
}

impl ItemObject {
    /// Shows at most `cut` bytes of the body.
    fn cut(mut view: ItemView, cut: usize) -> ItemObject {
        let len = view.body.len();
        view.body = begin(view.body, cut);
        let bytes = (view.body.len() < len).then_some(len);
        ItemObject { bytes, ..ItemObject::from(view) }
    }
}

/// Returns the first `max` bytes of the body. Text is never cut inside a character.
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
            history: view.history.into_iter().map(AttemptObject::from).collect(),
        }
    }
}

/// The items to show, as the query selects them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemsQuery {
    state: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
    cut: Option<u32>,
    key: Option<Box<str>>,
    text: Option<Box<str>>,
}

/// Limit on the items in one answer, and on the ids in one request.
const ITEMS_MAX: usize = 1000;
/// A search text may be as long as a key.
const TEXT_BYTES_MAX: usize = 256;

impl ItemsQuery {
    fn look(&self) -> Result<Look, ErrorAnswer> {
        let state = match self.state.as_deref() {
            None => None,
            Some(name) => {
                let known = ItemState::ALL.into_iter().find(|state| state.name() == name);
                let known =
                    known.ok_or_else(|| ErrorAnswer::invalid("state is ready, delayed, leased or dead"));
                Some(known?)
            }
        };
        let limit = self.limit.unwrap_or(10);
        if !(1..=ITEMS_MAX).contains(&limit) {
            return Err(ErrorAnswer::invalid(format!("limit is from 1 to {ITEMS_MAX}")));
        }
        let after =
            self.after.as_deref().map(str::parse::<ItemId>).transpose().map_err(ErrorAnswer::invalid)?;
        let within =
            |text: &Option<Box<str>>| text.as_ref().is_none_or(|t| (1..=TEXT_BYTES_MAX).contains(&t.len()));
        for (name, text) in [("key", &self.key), ("text", &self.text)] {
            if !within(text) {
                return Err(ErrorAnswer::invalid(format!("{name} has 1 to {TEXT_BYTES_MAX} bytes")));
            }
        }
        Ok(Look { state, limit, after, key: self.key.clone(), text: self.text.clone() })
    }
}

/// Answers with the items that the query selects; `state` overrides the state of the query.
pub async fn show_items(
    engine: &Engine,
    name: &str,
    query: &ItemsQuery,
    state: Option<ItemState>,
) -> Result<Response, ErrorAnswer> {
    #[derive(Serialize)]
    struct Answer {
        items: Vec<ItemObject>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<ItemId>,
    }
    let asked = query.look()?;
    let look = Look { state: state.or(asked.state), ..asked };
    let cut = query.cut.and_then(|cut| usize::try_from(cut).ok()).unwrap_or(usize::MAX);
    let Looked { items, next } = engine.look(name, look).await?;
    let items = items.into_iter().map(|view| ItemObject::cut(view, cut)).collect();
    Ok(json(StatusCode::OK, &Answer { items, next }))
}

pub async fn list(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    Query(query): Query<ItemsQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, Right::Read)?;
    show_items(&doors.engine, &name, &query, None).await
}

pub async fn show(
    State(doors): State<Doors>,
    Path((name, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, Right::Read)?;
    let id = id.parse().map_err(ErrorAnswer::invalid)?;
    Ok(json(StatusCode::OK, &ItemObject::from(doors.engine.item(&name, id).await?)))
}

/// The number of items that a request changed.
#[derive(Serialize)]
pub struct ChangedItems {
    pub count: u64,
}

/// The ids of a request, at most [`ITEMS_MAX`].
#[derive(Deserialize)]
#[serde(try_from = "Vec<ItemId>")]
struct BoundedIds(Vec<ItemId>);

impl TryFrom<Vec<ItemId>> for BoundedIds {
    type Error = String;

    fn try_from(ids: Vec<ItemId>) -> Result<BoundedIds, String> {
        if ids.len() > ITEMS_MAX {
            Err(format!("at most {ITEMS_MAX} ids in one request"))
        } else {
            Ok(BoundedIds(ids))
        }
    }
}

pub async fn delete(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Deletion {
        ids: BoundedIds,
    }
    doors.permit_new(&headers, Right::Admin)?;
    let Deletion { ids } = request::json(&doors.body(&headers, body).await?)?;
    let count = doors.engine.delete_items(&name, ids.0).await?;
    Ok(json(StatusCode::OK, &ChangedItems { count }))
}

pub async fn move_to(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Move {
        ids: BoundedIds,
        to: String,
    }
    doors.permit_new(&headers, Right::Admin)?;
    let Move { ids, to } = request::json(&doors.body(&headers, body).await?)?;
    let count = doors.engine.move_items(&name, &to, ids.0).await?;
    Ok(json(StatusCode::OK, &ChangedItems { count }))
}
