//! The way past the router for the requests that come with every item: its boxes and clones cost as much as all else that
//! a push takes. The router has the same routes, for requests that are not of just this form.

use super::request::{Path, Query};
use super::{Doors, push, work};
use crate::engine::contract::Engine;
use crate::engine::policy::check_name;
use crate::metrics::Answered;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use hyper::body::Incoming;
use kit::http::{Answer, Peer};

#[derive(Clone, Debug)]
pub struct Direct<E> {
    pub doors: Doors<E>,
    pub router: Router,
}

/// What every item needs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Push,
    Lease,
    Ack,
}

/// The step and the queue's name, if nothing in the request needs decoding.
fn step<B>(request: &Request<B>) -> Option<(Step, String)> {
    if request.method() != Method::POST || request.uri().query().is_some() {
        return None;
    }
    let (name, step) = request.uri().path().strip_prefix("/v1/queues/")?.split_once('/')?;
    let step = match step {
        "items" => Step::Push,
        "lease" => Step::Lease,
        "ack" => Step::Ack,
        _ => return None,
    };
    check_name(name).ok()?;
    Some((step, name.to_owned()))
}

impl<E: Engine> Answer for Direct<E> {
    fn answer(self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response> + Send {
        match step(&request) {
            Some((step, name)) => Either::Left(take(step, self.doors.clone(), name, request)),
            None => Either::Right(self.router.answer(request, peer)),
        }
    }
}

async fn take<E: Engine>(step: Step, doors: Doors<E>, name: String, request: Request<Incoming>) -> Response {
    let (head, body) = request.into_parts();
    let (state, name, headers, body) = (State(doors.clone()), Path(name), head.headers, Body::new(body));
    let answer = match step {
        Step::Push => push::one(state, name, Query(push::Options::default()), headers, body).await,
        Step::Lease => work::lease(state, name, headers, body).await,
        Step::Ack => work::ack(state, name, headers, body).await,
    };
    let response = answer.into_response();
    let answered = Answered { door: "v1", status: response.status().as_u16() };
    doors.metrics.requests.get_or_create(&answered).inc();
    response
}
