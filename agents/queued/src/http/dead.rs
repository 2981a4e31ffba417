//! Requests about dead items: list, redrive, delete.

use super::items::{ChangedItems, ItemsQuery, show_items};
use super::request::{Path, Query};
use super::tokens::Right;
use super::{Doors, json, request};
use crate::engine::item::{ItemId, ItemState};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use kit::http::error_answer::ErrorAnswer;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ids {
    ids: Option<Vec<ItemId>>,
}

pub async fn list(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    Query(query): Query<ItemsQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorAnswer> {
    doors.permit(&headers, Right::Read)?;
    show_items(&doors.engine, &name, &query, Some(ItemState::Dead)).await
}

async fn ids(doors: &Doors, headers: &HeaderMap, body: Body) -> Result<Option<Vec<ItemId>>, ErrorAnswer> {
    let body = doors.body(headers, body).await?;
    let Ids { ids } = request::json(&body)?;
    Ok(ids)
}

pub async fn redrive(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Admin)?;
    let ids = ids(&doors, &headers, body).await?;
    Ok(json(StatusCode::OK, &ChangedItems { count: doors.engine.redrive_dead(&name, ids).await? }))
}

pub async fn delete(
    State(doors): State<Doors>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorAnswer> {
    doors.permit_new(&headers, Right::Admin)?;
    let ids = ids(&doors, &headers, body).await?;
    Ok(json(StatusCode::OK, &ChangedItems { count: doors.engine.delete_dead(&name, ids).await? }))
}
