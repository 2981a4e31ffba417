//! The wait for the next request of a connection, in two stages. While all places are taken, an idle client
//! loses its place after the first stage.

use crate::net::accept::Crowd;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The timeout for a client's headers.
pub const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// The timeout for a client's headers while other clients wait for its place.
pub const HEADERS_WITHIN_CROWD: Duration = Duration::from_secs(1);

/// The part of a request that has been received.
#[derive(Debug)]
pub enum Received<T> {
    /// The request as a whole.
    Whole(T),
    /// More of the head or body must arrive.
    Part { whole_head: bool },
    /// A request for hyper.
    ForHyper,
}

/// The result of the wait for a request.
#[derive(Debug)]
pub enum Waited<T> {
    Request(T),
    /// The connection continues in hyper, with the bytes read so far.
    ForHyper,
    /// The connection has ended, or is given up.
    Ended,
}

/// The wait of one connection for each of its requests.
#[derive(Debug)]
pub struct HeadWait {
    crowd: Crowd,
    since: Instant,
    /// Set by the timer when the first stage is over, since bytes may come at that very moment.
    is_slow: bool,
    timer: Pin<Box<Sleep>>,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
    answered_before: bool,
}

impl HeadWait {
    pub fn new(crowd: Crowd, drain: &CancellationToken) -> HeadWait {
        HeadWait {
            crowd,
            since: Instant::now(),
            is_slow: false,
            timer: Box::pin(sleep(HEADERS_WITHIN_CROWD)),
            drained: Box::pin(drain.clone().cancelled_owned()),
            answered_before: false,
        }
    }

    /// Starts the wait for the next request.
    pub fn restart(&mut self) {
        (self.answered_before, self.is_slow, self.since) = (true, false, Instant::now());
        self.timer.as_mut().reset(self.since + HEADERS_WITHIN_CROWD);
    }

    /// Reads into `bytes` until `find` finds a request in them.
    pub async fn next<S: AsyncRead + Unpin, T>(
        &mut self,
        stream: &mut S,
        bytes: &mut Vec<u8>,
        find: impl Fn(&[u8]) -> Received<T>,
    ) -> io::Result<Waited<T>> {
        loop {
            let found = match bytes.is_empty() {
                true => Received::Part { whole_head: false },
                false => find(bytes),
            };
            let whole_head = match found {
                Received::Whole(request) => return Ok(Waited::Request(request)),
                Received::ForHyper => return Ok(Waited::ForHyper),
                Received::Part { whole_head } => whole_head,
            };
            // An idle connection only holds a place: between two requests a client may take its time.
            let is_between_requests = bytes.is_empty() && self.answered_before;
            let is_idler = !whole_head && !is_between_requests;
            tokio::select! {
                biased;
                read = stream.read_buf(bytes) => if read? == 0 {
                    // hyper answers an incomplete request if the connection ends.
                    return Ok(if bytes.is_empty() { Waited::Ended } else { Waited::ForHyper });
                },
                () = self.crowd.is_full(), if self.is_slow && is_idler => return Ok(Waited::Ended),
                () = &mut self.timer => match self.is_slow {
                    // From now on the wait ends if all places are taken.
                    false => {
                        self.is_slow = true;
                        self.timer.as_mut().reset(self.since + HEADERS_WITHIN);
                    }
                    // Waiting for a body has its own timeout.
                    true => return Ok(if whole_head { Waited::ForHyper } else { Waited::Ended }),
                },
                // An incomplete request must be answered, since its client waits for the answer.
                () = &mut self.drained, if bytes.is_empty() => return Ok(Waited::Ended),
            }
        }
    }
}
