//! The fast path for push, lease and ack, which every item needs. It bypasses hyper and the router, which
//! cost more than the rest of a push. Malformed and forbidden requests go to the router, which answers with
//! the error.

use super::short_requests::{self, AnswerShort, ShortAnswer, ShortRequest};
use super::tokens::Right;
use super::work::{Ack, Lease};
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
pub struct Direct {
    pub doors: Doors,
    pub router: Router,
}

/// The requests that every item needs.
enum Step {
    Push(NewItem),
    Lease(Lease),
    Ack(Vec<Settlement>),
}

impl Direct {
    /// Returns the queue's name and the step to take; `None` leaves the request to the router.
    fn step(&self, request: &ShortRequest<'_>) -> Option<(String, Step)> {
        // A browser sent this request: the router checks which site's page it came from.
        if SAID_BY_BROWSERS.iter().any(|name| request.has(name.as_str())) {
            return None;
        }
        let doors = &self.doors;
        if request.body.len() > doors.request_bytes_max {
            return None;
        }
        let authorization = request.header("authorization");
        let (name, step) = request.path.strip_prefix("/v1/queues/")?.split_once('/')?;
        let step = match (request.method, step) {
            ("POST", "items") if request.body.len() <= doors.item_bytes_max => {
                doors.permit_new_token(authorization, Right::Push).ok()?;
                let content_type = request.header("content-type");
                let item =
                    push::item(request.body, content_type, push::Options::default(), doors.item_bytes_max);
                Step::Push(item.ok()?)
            }
            ("POST", "lease" | "ack") => {
                doors.permit_token(authorization, Right::Work).ok()?;
                match step {
                    "lease" => Step::Lease(request::json(request.body).ok()?),
                    _ => Step::Ack(work::settlements_in::<Ack>(request.body).ok()?),
                }
            }
            _ => return None,
        };
        check_name(name).ok()?;
        Some((name.to_owned(), step))
    }
}

impl Answer for Direct {
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

impl AnswerShort for Direct {
    fn answer_short(
        &self,
        request: &ShortRequest<'_>,
    ) -> Option<impl Future<Output = ShortAnswer> + Send + use<>> {
        let (name, step) = self.step(request)?;
        let doors = self.doors.clone();
        Some(async move {
            let answer = match step {
                Step::Push(item) => push::keep(&doors, &name, item, false).await,
                Step::Lease(action) => work::hand_out(&doors, &name, action).await,
                Step::Ack(settlements) => work::settle(&doors, &name, settlements).await,
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
