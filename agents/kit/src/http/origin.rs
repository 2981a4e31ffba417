//! Detects requests that a browser sends on behalf of another site. Such a page can send requests to every
//! address that its visitor reaches, loopback and forwarded ports included, though it never sees the answer.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, header};

/// Browsers send one of these headers with each request that may change something; other clients do not.
pub static SAID_BY_BROWSERS: [HeaderName; 2] = [SITE, header::ORIGIN];

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// True if the request must be refused. Reading is allowed: another site's page cannot see the answer.
pub fn is_from_elsewhere(request: &Request) -> bool {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    changes && is_of_another_site(request.headers())
}

/// True if a proxy's header says that the request is forwarded. The address of the proxy does not matter.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name))
}

/// True if a browser sent the request for another site. Newer browsers state this in `Sec-Fetch-Site`. Older
/// ones name the site in `Origin`: it is ours if it equals `Host`. A client that sends neither header is not
/// a browser.
pub fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(SITE) {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(header::ORIGIN) else { return false };
    let site = origin.split_once("://").map(|(_, site)| site);
    site.is_none() || site != text(header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_sites_are_rejected() {
        let strange = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            is_of_another_site(&pairs.collect::<HeaderMap>())
        };
        let host = ("host", "127.0.0.1:8080");
        assert!(!strange(&[host]), "no browser");
        assert!(!strange(&[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(!strange(&[host, ("sec-fetch-site", "same-origin"), ("origin", "http://behind.a.proxy")]));
        assert!(!strange(&[host, ("sec-fetch-site", "none")]), "typed by a person");
        for site in ["cross-site", "same-site", "", "\u{e9}"] {
            assert!(strange(&[host, ("sec-fetch-site", site)]), "{site}");
        }
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:8081",
            "null",
            "127.0.0.1:8080",
            "http://127.0.0.1:8080.evil.example",
        ] {
            assert!(strange(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(strange(&[("origin", "http://127.0.0.1:8080")]), "no host");
    }
}
