//! The page that an agent serves about itself: one look for all, no asset from elsewhere.

use crate::http::Peer;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName};
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::routing::get;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// What an agent brings: its own markup and script. The style, and what the scripts share, are here.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub html: &'static str,
    pub script: &'static str,
}

/// Only files of this server, no inline script or style, nowhere to send a form, no frame around it; and no
/// string ever becomes markup, even if a script of ours tried.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The routes, to be merged into the door that the page is served on. Paths in pages are relative, so that they
/// work behind a proxy that puts something in front.
pub fn routes<S: Clone + Send + Sync + 'static>(page: Page) -> Router<S> {
    let files = [
        ("/", "text/html; charset=utf-8", page.html),
        ("/page/agent.js", "text/javascript; charset=utf-8", page.script),
        ("/page/kit.js", "text/javascript; charset=utf-8", include_str!("page/kit.js")),
        ("/page/kit.css", "text/css; charset=utf-8", include_str!("page/kit.css")),
        ("/page/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ];
    files.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || file(kind, text)))
    })
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

/// What an agent shows on its admin endpoint beside probes and metrics: set once, when there is something to show.
pub type Pages = Arc<OnceLock<Router>>;

/// Pages tell more than metrics do: peers, names of files, even lines. So they are for those who are on this host
/// (or are let onto it, as by `kubectl port-forward`), and who ask under an address or as localhost: a site whose
/// name leads to 127.0.0.1 reads nothing through its visitors' browsers.
pub fn from_here_only(router: Router) -> Router {
    router.route_layer(axum::middleware::from_fn(async |request: Request, next: Next| {
        let peer = request.extensions().get::<Peer>().map(|Peer(peer)| peer.ip().to_canonical());
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        if peer.is_some_and(|peer| peer.is_loopback()) && host.is_some_and(is_address) {
            return next.run(request).await;
        }
        (
            StatusCode::FORBIDDEN,
            "the page is only for this host itself, asked for by address or as localhost\n",
        )
            .into_response()
    }))
}

/// `127.0.0.1:7667`, `[::1]:7667`, `localhost`: nothing that a stranger's name server has a say in.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// The admin endpoint takes 64 connections, and probes and scrapers must find room among them.
pub const STREAMS_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_localhost() {
        for own in ["127.0.0.1:7667", "[::1]:7667", "localhost", "LOCALHOST:80", "10.0.0.7"] {
            assert!(is_address(own), "{own}");
        }
        for strange in
            ["evil.example:7667", "localhost.evil.example", "", "127.0.0.1.nip.example", "[evil]:1"]
        {
            assert!(!is_address(strange), "{strange}");
        }
    }
}
