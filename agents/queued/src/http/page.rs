//! The page at `/` shows the queues. It uses only `/v1` and the history, and its rights are those of its
//! token.

use super::Doors;
use super::history::history;
use axum::Router;
use axum::routing::get;
use kit::page::{Page, script};

const PAGE: Page = Page { html: include_str!("page.html"), script: include_str!("page.js") };

pub fn routes() -> Router<Doors> {
    Router::new()
        .route("/page/history", get(history))
        .merge(kit::page::routes(PAGE))
        .merge(script("/page/items.js", include_str!("items.js")))
}
