//! The fast path for push, lease and ack, which every item needs. It bypasses hyper and the router, which
//! cost more than the rest of a push. Malformed and forbidden requests go to the router, which answers with
//! the error.

use super::short_requests::{self, AnswerShort, ShortAnswer, ShortRequest};
use super::tokens::Right;
use super::work::{Ack, LeaseParams};
use super::{Doors, JSON, Line, push, request, work};
use crate::engine::contract::{NewItem, Settlement};
use crate::engine::policy::check_name;
use crate::metrics::Answered;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use kit::http::origin::SAID_BY_BROWSERS;
use kit::http::{Answer, HeadWait, Peer};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug)]
pub struct FastPath {
    pub doors: Doors,
    pub router: Router,
}

/// The requests that every item needs.
enum FastRequest {
    Push(NewItem),
    Lease(LeaseParams),
    Ack(Vec<Settlement>),
}

impl FastPath {
    /// Returns the queue's name and the request for it; `None` leaves the request to the router.
    fn parse(&self, request: &ShortRequest<'_>) -> Option<(String, FastRequest)> {
        // A browser sent this request: the router checks which site's page it came from.
        if SAID_BY_BROWSERS.iter().any(|name| request.has(name.as_str())) {
            return None;
        }
        let doors = &self.doors;
        if request.body.len() > doors.request_bytes_max {
            return None;
        }
        let authorization = request.header("authorization");
        let (name, action) = request.path.strip_prefix("/v1/queues/")?.split_once('/')?;
        let parsed = match (request.method, action) {
            ("POST", "items") if request.body.len() <= doors.item_bytes_max => {
                doors.permit_new_token(authorization, Right::Push).ok()?;
                let content_type = request.header("content-type");
                let item =
                    push::item(request.body, content_type, push::PushQuery::default(), doors.item_bytes_max);
                FastRequest::Push(item.ok()?)
            }
            ("POST", "lease" | "ack") => {
                doors.permit_token(authorization, Right::Work).ok()?;
                match action {
                    "lease" => FastRequest::Lease(request::json(request.body).ok()?),
                    _ => FastRequest::Ack(work::settlements_in::<Ack>(request.body).ok()?),
                }
            }
            _ => return None,
        };
        check_name(name).ok()?;
        Some((name.to_owned(), parsed))
    }
}

impl Answer for FastPath {
    fn answer(self, request: Request, peer: Peer) -> impl Future<Output = Response> + Send {
        self.router.answer(request, peer)
    }

    fn serve_first<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: &mut S,
        wait: HeadWait,
        drain: &CancellationToken,
    ) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send {
        short_requests::serve(stream, self, wait, drain)
    }
}

impl AnswerShort for FastPath {
    fn answer_short(
        &self,
        request: &ShortRequest<'_>,
    ) -> Option<impl Future<Output = ShortAnswer> + Send + use<>> {
        let (name, parsed) = self.parse(request)?;
        let doors = self.doors.clone();
        Some(async move {
            let answer = match parsed {
                FastRequest::Push(item) => push::keep(&doors, &name, item, false).await,
                FastRequest::Lease(params) => work::hand_out(&doors, &name, params).await,
                FastRequest::Ack(settlements) => work::settle(&doors, &name, settlements).await,
            };
            let (status, reply) = match answer {
                Ok(Line { status, text, room: None }) => {
                    (status, ShortAnswer::Plain { status, content_type: JSON, body: text })
                }
                Ok(long) => (long.status, ShortAnswer::Other(long.into_response())),
                Err(problem) => (problem.status, ShortAnswer::Other(problem.into_response())),
            };
            doors.metrics.requests.get_or_create(&Answered { door: "v1", status: status.as_u16() }).inc();
            reply
        })
    }
}
