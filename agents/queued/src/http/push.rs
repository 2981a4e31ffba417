//! Requests that push one item or a batch.

use super::item_limit;
use super::request::{Path, Query};
use super::tokens::Right;
use super::{Doors, Line, json, request};
use crate::engine::contract::NewItem;
use crate::engine::item::ItemId;
use crate::engine::policy::check_duration_ms;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use kit::http::error_answer::ErrorAnswer;
use serde::{Deserialize, Serialize};

const KEY_BYTES_MAX: usize = 256;
const CONTENT_TYPE_BYTES_MAX: usize = 127;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushQuery {
    key: Option<Box<str>>,
    delay_ms: u64,
    seal: bool,
}

#[derive(Serialize)]
struct PushedItem {
    id: ItemId,
    duplicate: bool,
}

impl From<(ItemId, bool)> for PushedItem {
    fn from((id, duplicate): (ItemId, bool)) -> PushedItem {
        PushedItem { id, duplicate }
    }
}

pub async fn one(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    Query(query): Query<PushQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Push)?;
    let body = doors.item_body(&headers, body).await?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let seal = query.seal;
    let item = item(&body, content_type, query, doors.item_bytes_max)?;
    Ok(keep(&doors, &name, item, seal).await?.into_response())
}

/// An item of one request, copied out of the connection's buffer, which a small item would otherwise keep
/// alive.
pub fn item(
    body: &[u8],
    content_type: Option<&str>,
    query: PushQuery,
    bytes_max: usize,
) -> Result<NewItem, ErrorAnswer> {
    // A type that is too long or not ASCII cannot be sent on, so it is dropped.
    let content_type = content_type
        .filter(|text| !text.is_empty() && text.len() <= CONTENT_TYPE_BYTES_MAX && text.is_ascii())
        .map(Into::into);
    let PushQuery { key, delay_ms, .. } = query;
    checked(NewItem { body: body.into(), key, content_type, delay_ms }, bytes_max)
}

pub async fn keep(doors: &Doors, name: &str, item: NewItem, seal: bool) -> Result<Line, ErrorAnswer> {
    let ids = doors.engine.push(name, vec![item], seal).await?;
    let pushed = ids.into_iter().next().map(PushedItem::from);
    pushed.map(|pushed| Line::new(StatusCode::CREATED, &pushed)).ok_or_else(|| {
        ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the item was given no id")
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchItem {
    body: Option<String>,
    body_base64: Option<String>,
    key: Option<Box<str>>,
    #[serde(default)]
    delay_ms: Option<u64>,
    content_type: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PushBatch {
    items: Vec<BatchItem>,
    seal: bool,
}

pub async fn batch(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    Query(query): Query<PushQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    #[derive(Serialize)]
    struct Answer {
        items: Vec<PushedItem>,
        sealed: bool,
    }
    doors.permit_new(&headers, Right::Push)?;
    if query.key.is_some() {
        return Err(ErrorAnswer::invalid("a batch has a key for each item, not a single key"));
    }
    // Checked even if no item uses it.
    check_duration_ms("delay_ms", query.delay_ms).map_err(ErrorAnswer::invalid)?;
    let body = doors.body(&headers, body).await?;
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_json =
        content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
    let (items, seal) = match is_json {
        true => {
            let batch: PushBatch = request::json(&body)?;
            let items: Result<_, _> =
                batch.items.into_iter().map(|item| new_item(item, &query, doors.item_bytes_max)).collect();
            (items?, batch.seal)
        }
        false => (lines(&body, &query, doors.item_bytes_max)?, false),
    };
    let sealed = seal || query.seal;
    let ids = doors.engine.push(&name, items, sealed).await?;
    let items = ids.into_iter().map(PushedItem::from).collect();
    Ok(json(StatusCode::CREATED, &Answer { items, sealed }))
}

fn new_item(item: BatchItem, query: &PushQuery, bytes_max: usize) -> Result<NewItem, ErrorAnswer> {
    let body: Box<[u8]> = match (item.body, item.body_base64) {
        (Some(text), None) => text.into_bytes().into(),
        (None, Some(text)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            bytes.map_err(|e| ErrorAnswer::invalid(format!("body_base64: {e}")))?.into()
        }
        _ => return Err(ErrorAnswer::invalid("an item has either body or body_base64")),
    };
    let delay_ms = item.delay_ms.unwrap_or(query.delay_ms);
    checked(NewItem { body, key: item.key, content_type: item.content_type, delay_ms }, bytes_max)
}

fn lines(body: &[u8], query: &PushQuery, bytes_max: usize) -> Result<Vec<NewItem>, ErrorAnswer> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let item = |line: &[u8]| NewItem { body: line.into(), delay_ms: query.delay_ms, ..NewItem::default() };
    lines.map(|line| checked(item(line), bytes_max)).collect()
}

fn checked(item: NewItem, bytes_max: usize) -> Result<NewItem, ErrorAnswer> {
    if item.body.len() > bytes_max {
        return Err(item_limit(bytes_max).exceeded());
    }
    let within =
        |text: &Option<Box<str>>, max: usize| text.as_ref().is_none_or(|t| (1..=max).contains(&t.len()));
    if !within(&item.key, KEY_BYTES_MAX) {
        return Err(ErrorAnswer::invalid(format!("a key has 1 to {KEY_BYTES_MAX} bytes")));
    }
    if !within(&item.content_type, CONTENT_TYPE_BYTES_MAX) {
        return Err(ErrorAnswer::invalid(format!("a content type has 1 to {CONTENT_TYPE_BYTES_MAX} bytes")));
    }
    check_duration_ms("delay_ms", item.delay_ms).map_err(ErrorAnswer::invalid)?;
    Ok(item)
}
