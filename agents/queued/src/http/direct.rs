//! The fast path for the requests that every item needs. It bypasses hyper and the router, which cost more
//! than the rest of a push. Malformed and forbidden requests go to the router, which answers with the error.

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
use kit::http::pieces::{Piece, Reply};
use kit::http::{Answer, Peer};

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
    fn step(&self, piece: &Piece<'_>) -> Option<(String, Step)> {
        // A browser sent this request: the router checks which site's page it came from.
        if SAID_BY_BROWSERS.iter().any(|name| piece.has(name.as_str())) {
            return None;
        }
        let doors = &self.doors;
        if piece.body.len() > doors.request_bytes_max {
            return None;
        }
        let authorization = piece.header("authorization");
        let (name, step) = piece.path.strip_prefix("/v1/queues/")?.split_once('/')?;
        let step = match (piece.method, step) {
            ("POST", "items") if piece.body.len() <= doors.item_bytes_max => {
                doors.permit_new_token(authorization, Right::Push).ok()?;
                let content_type = piece.header("content-type");
                let item =
                    push::item(piece.body, content_type, push::Options::default(), doors.item_bytes_max);
                Step::Push(item.ok()?)
            }
            ("POST", "lease" | "ack") => {
                doors.permit_token(authorization, Right::Work).ok()?;
                match step {
                    "lease" => Step::Lease(request::json(piece.body).ok()?),
                    _ => Step::Ack(work::wishes::<Ack>(piece.body).ok()?),
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

    fn answer_piece(&self, piece: &Piece<'_>) -> Option<impl Future<Output = Reply> + Send + use<>> {
        let (name, step) = self.step(piece)?;
        let doors = self.doors.clone();
        Some(async move {
            let answer = match step {
                Step::Push(item) => push::keep(&doors, &name, item, false).await,
                Step::Lease(wish) => work::hand_out(&doors, &name, wish).await,
                Step::Ack(wishes) => work::settle(&doors, &name, wishes).await,
            };
            let (status, reply) = match answer {
                Ok(Line { status, text, room: None }) => {
                    (status, Reply::Plain { status, content_type: JSON, body: text })
                }
                Ok(long) => (long.status, Reply::Other(long.into_response())),
                Err(problem) => (problem.status, Reply::Other(problem.into_response())),
            };
            doors.metrics.requests.get_or_create(&Answered { door: "v1", status: status.as_u16() }).inc();
            reply
        })
    }
}
