//! Server-sent events, with a bound on the number of listeners.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The interval of keep-alive comments, shorter than the idle time after which proxies close connections.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Makes nginx pass on each event at once; other programs ignore this header.
const NOT_BUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// The source of a stream: events with a name and one line of JSON.
pub trait Source: Send + 'static {
    /// Waits for the next event; `None` ends the stream. Nothing runs unless somebody waits.
    fn next(&mut self) -> impl Future<Output = Option<(&'static str, String)>> + Send;

    /// Returns the id of the event that came last. A client that connects again sends it as `Last-Event-ID`.
    fn id(&self) -> Option<String> {
        None
    }
}

/// The bound on open streams; clones share it.
#[derive(Clone, Debug)]
pub struct Streams {
    room: Arc<Semaphore>,
    max: usize,
}

/// The error when too many streams are open.
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
            let event = Event::default().event(name).data(data);
            let event = match source.id() {
                Some(id) => event.id(id),
                None => event,
            };
            Some((Ok::<_, Infallible>(event), (source, permit)))
        });
        let events = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY));
        Ok(([NOT_BUFFERED], events).into_response())
    }
}

impl IntoResponse for TooMany {
    fn into_response(self) -> Response {
        let message = format!("{} event streams are open already; close a page\n", self.0);
        (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
    }
}
