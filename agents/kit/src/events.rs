//! Server-sent events: what happens, told to whoever listens, with a bound on how many do.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Below the idle time after which proxies cut connections.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Tells nginx to hand on each event as it comes; others take it for a header of no meaning.
const NOT_BUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// What a stream tells: an event's name and its data, one line of JSON.
pub trait Source: Send + 'static {
    /// The next event, once there is one; `None` ends the stream. Nothing happens while nobody asks.
    fn next(&mut self) -> impl Future<Output = Option<(&'static str, String)>> + Send;
}

/// Those that are open, and room for more; clones share it.
#[derive(Clone, Debug)]
pub struct Streams {
    room: Arc<Semaphore>,
    max: usize,
}

/// So many are open already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany(pub usize);

impl Streams {
    pub fn at_most(max: usize) -> Streams {
        Streams { room: Arc::new(Semaphore::new(max)), max }
    }

    pub fn tell(&self, source: impl Source) -> Result<Response, TooMany> {
        let permit = self.room.clone().try_acquire_owned().map_err(|_| TooMany(self.max))?;
        let events = stream::unfold((source, permit), |(mut source, permit)| async move {
            let (name, data) = source.next().await?;
            Some((Ok::<_, Infallible>(Event::default().event(name).data(data)), (source, permit)))
        });
        let events = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY));
        Ok(([NOT_BUFFERED], events).into_response())
    }
}

impl IntoResponse for TooMany {
    fn into_response(self) -> Response {
        let message = format!("{} streams are open already; close a page\n", self.0);
        (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
    }
}
