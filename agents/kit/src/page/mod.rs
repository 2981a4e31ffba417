//! The page that an agent serves about itself. All pages share style and scripts; nothing is loaded from
//! elsewhere.

pub mod access;
pub mod history;

use axum::Router;
use axum::http::header::{self, HeaderName};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::{Arc, OnceLock};

/// The markup and script of one agent. The style and the shared script are in this module.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub html: &'static str,
    pub script: &'static str,
}

/// Allows only files of this server: no inline script or style, no target for a form, and no frame around the
/// page. Even a script of ours cannot turn a string into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The routes, to be merged into the router that serves the page. Paths in pages are relative, so that they
/// work through a proxy that adds a prefix.
pub fn routes<S: Clone + Send + Sync + 'static>(page: Page) -> Router<S> {
    let files = [
        ("/", "text/html; charset=utf-8", page.html),
        ("/page/agent.js", "text/javascript; charset=utf-8", page.script),
        ("/page/kit.js", "text/javascript; charset=utf-8", include_str!("kit.js")),
        ("/page/kit.css", "text/css; charset=utf-8", include_str!("kit.css")),
        ("/page/version", "text/plain; charset=utf-8", crate::VERSION),
        ("/page/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ];
    files.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || file(kind, text)))
    })
}

/// The route of a further script of a page.
pub fn script<S: Clone + Send + Sync + 'static>(path: &'static str, text: &'static str) -> Router<S> {
    Router::new().route(path, get(async move || file("text/javascript; charset=utf-8", text)))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // Another version's script would not fit this version's page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

/// The routes of an agent's page on its admin endpoint, set once the agent has something to show.
pub type Pages = Arc<OnceLock<Router>>;

/// The bound on event streams. The admin endpoint takes 64 connections, and probes and scrapers must find
/// room among them.
pub const STREAMS_MAX: usize = 24;
