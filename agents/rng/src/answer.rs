//! Answers a request: with the greeting, random bytes or an error, and with the names of the node and the
//! pod.

use crate::access_log::{self, AccessLog};
use crate::metrics::{ByStatus, RngMetrics};
use crate::random::Random;
use crate::route::{BYTES_MAX, Route};
use axum::Extension;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use kit::exit::{Exit, Fatal};
use kit::http::Peer;
use kit::lifecycle::identity::Identity;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

const NODE: HeaderName = HeaderName::from_static("node");
const POD: HeaderName = HeaderName::from_static("pod");

/// The names of node and pod, which every answer carries.
#[derive(Clone, Debug)]
pub struct Names {
    greeting: String,
    node: HeaderValue,
    pod: HeaderValue,
}

impl Names {
    /// Checks the names. Fails for a name that no header can hold.
    pub fn of(identity: &Identity) -> Result<Names, Fatal> {
        let value = |variable: &str, name: &str| {
            HeaderValue::from_str(name).map_err(|e| {
                Fatal::new(Exit::Config, format!("{variable} {name:?} cannot be sent in a header")).because(e)
            })
        };
        Ok(Names {
            greeting: format!("RNG running on {}\n", identity.name),
            node: value("NODE_NAME", &identity.node)?,
            pod: value("POD_NAME", &identity.name)?,
        })
    }
}

/// The state that all requests share.
#[derive(Clone, Debug)]
pub struct Service {
    pub names: Names,
    pub random: Random,
    pub delay: watch::Receiver<Duration>,
    /// With `--serial`, a semaphore with one permit: one request is answered at a time.
    pub serial: Option<Arc<Semaphore>>,
    pub access_log: AccessLog,
    pub metrics: RngMetrics,
}

pub async fn answer(
    State(service): State<Service>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let (uri, method) = (request.uri(), request.method());
    let _place = match &service.serial {
        Some(serial) => serial.acquire().await.ok(),
        None => None,
    };
    let route = Route::of(uri.path());
    let mut response = service.respond(route, method).await;
    let headers = response.headers_mut();
    headers.insert(NODE, service.names.node.clone());
    headers.insert(POD, service.names.pod.clone());
    // Make clients connect for each request, so that a changed selector of the Service applies at once.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));

    let (status, bytes) = (response.status().as_u16(), length(&response, route, method));
    service.metrics.requests.get_or_create(&ByStatus { status }).inc();
    if let Route::Bytes(_) = route {
        service.metrics.bytes.inc_by(bytes);
    }
    let asked = format!("{method} {uri} {:?}", request.version());
    let line = access_log::format(peer.ip(), Timestamp::now(), &asked, status, bytes);
    service.access_log.write(line).await;
    response
}

impl Service {
    async fn respond(&self, route: Route, method: &Method) -> Response {
        let text = |status: StatusCode, text: String| (status, text).into_response();
        if route == Route::Unknown {
            return text(StatusCode::NOT_FOUND, "not found; try / or /32\n".to_owned());
        }
        if method != Method::GET && method != Method::HEAD {
            let refusal = (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], "only GET and HEAD\n");
            return refusal.into_response();
        }
        match route {
            Route::Greeting | Route::Unknown => text(StatusCode::OK, self.names.greeting.clone()),
            Route::TooManyBytes => text(StatusCode::BAD_REQUEST, format!("at most {BYTES_MAX} bytes\n")),
            Route::Bytes(count) => {
                let delay = *self.delay.borrow();
                tokio::time::sleep(delay).await;
                let headers = [
                    (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                    (CONTENT_LENGTH, HeaderValue::from(count)),
                ];
                (headers, self.random.body(count)).into_response()
            }
        }
    }
}

/// Returns the length of the body that the client gets.
fn length(response: &Response, route: Route, method: &Method) -> u64 {
    match route {
        _ if method == Method::HEAD => 0,
        Route::Bytes(count) if response.status() == StatusCode::OK => {
            u64::try_from(count).unwrap_or(u64::MAX)
        }
        _ => response.body().size_hint().exact().unwrap_or_default(),
    }
}
