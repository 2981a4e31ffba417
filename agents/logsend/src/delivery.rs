//! Sends one batch at a time, and retries until it is delivered.

use crate::backlog::Backlog;
use crate::receipt::{ReceiptError, Receiver};
use crate::sink::Sink;
use kit::client::Server;
use kit::exit::{Exit, Fatal};
use kit::lifecycle::stop::Stop;
use kit::net::backoff::{Backoff, jittered};
use kit::terminal;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// The minimum time between two small batches. The first line after a pause is sent at once. Lines that
/// trickle in share connections, because each connection leaves a port in TIME_WAIT for a minute, and a host
/// has 28,000 ports.
const PACE: Duration = Duration::from_millis(10);
/// A batch that takes longer than this shows that logd cannot keep up, is stuck or out of reach.
const STALLED_AFTER: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// The longest pause while draining: time is short, so attempts come sooner.
const PAUSE_DRAINING_MAX: Duration = Duration::from_secs(1);

/// Takes lines from the input and sends them to logd.
pub(crate) struct Delivery {
    target: Receiver,
    stop: Stop,
    pub(crate) backlog: RefCell<Backlog>,
    lines_came: Notify,
    room: Notify,
    ended: Cell<bool>,
    last_error: RefCell<String>,
}

/// A time without receipts, logged once when it begins and once when it ends.
struct Silence {
    since: Instant,
    attempts: u64,
}

impl Sink for Delivery {
    async fn room(&self) {
        while !self.backlog.borrow().has_room() {
            self.room.notified().await;
        }
    }

    fn line(&self, line: &[u8]) {
        self.backlog.borrow_mut().push(line);
    }

    fn lines_came(&self) {
        self.backlog.borrow_mut().settle();
        self.lines_came.notify_one();
    }
}

impl Delivery {
    pub(crate) fn new(target: Receiver, backlog: Backlog, stop: Stop) -> Delivery {
        Delivery {
            target,
            stop,
            backlog: RefCell::new(backlog),
            lines_came: Notify::new(),
            room: Notify::new(),
            ended: Cell::new(false),
            last_error: RefCell::new("no attempt has ended yet".to_owned()),
        }
    }

    /// Notes that no more lines will come.
    pub(crate) fn input_ended(&self) {
        self.ended.set(true);
        self.lines_came.notify_one();
    }

    /// Logs the totals. Fails if lines are left that are not in the spool.
    pub(crate) fn close(self, exit: Exit) -> Result<Exit, Fatal> {
        let undelivered = self.backlog.into_inner().close();
        if undelivered == 0 {
            return Ok(exit);
        }
        let Server { host, port, .. } = &self.target.server;
        let error = self.last_error.into_inner();
        let message =
            format!("{} undelivered to {host}:{port}: {error}", terminal::count(undelivered, "line"));
        // The command's own failure is more important, and its exit code is promised to be passed on.
        let code = if exit.code() == 0 { Exit::TryAgain } else { exit };
        Err(Fatal::new(code, message))
    }

    /// Returns when the input has ended and everything is delivered, or is safe in the spool.
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        let mut silence = None;
        let mut next = Instant::now();
        while self.has_something().await {
            self.gather_until(next).await;
            next = Instant::now() + PACE;
            match self.attempt().await {
                Ok(()) => {
                    backoff.succeeded();
                    self.say_back(silence.take().as_ref());
                }
                Err(error) => {
                    self.say_away(&mut silence, &error);
                    *self.last_error.borrow_mut() = error.to_string();
                    if self.stop.drain.is_cancelled() && self.ended.get() && self.backlog.borrow().has_spool()
                    {
                        return; // time is short, and the spool keeps the lines
                    }
                    self.wait_after_failure(&mut backoff).await;
                }
            }
        }
    }

    async fn has_something(&self) -> bool {
        while self.backlog.borrow().is_empty() {
            if self.ended.get() {
                return false;
            }
            self.lines_came.notified().await;
        }
        true
    }

    async fn gather_until(&self, moment: Instant) {
        while !self.ended.get() && !self.backlog.borrow().has_full_batch() {
            tokio::select! {
                () = sleep_until(moment) => return,
                () = self.lines_came.notified() => {}
            }
        }
    }

    /// Tries once to deliver the oldest batch. If that takes long, logd is stuck or out of reach: new lines
    /// go to the spool meanwhile.
    async fn attempt(&self) -> Result<(), ReceiptError> {
        let exchange = self.connect_and_send();
        tokio::pin!(exchange);
        let result = tokio::select! {
            result = &mut exchange => result,
            () = sleep(STALLED_AFTER) => {
                self.backlog.borrow_mut().stalled();
                self.room.notify_waiters();
                exchange.await
            }
        };
        match result {
            Ok(()) => self.backlog.borrow_mut().delivered(),
            Err(_) => self.backlog.borrow_mut().failed(),
        }
        self.room.notify_waiters();
        result
    }

    /// Connects, then chooses the batch, which grows until the connection is made.
    async fn connect_and_send(&self) -> Result<(), ReceiptError> {
        let connection = self.target.connect().await?;
        let batch = self.backlog.borrow_mut().take().map_err(ReceiptError::Spool)?;
        match batch {
            Some(batch) => connection.send(&batch.bytes).await,
            None => Ok(()),
        }
    }

    async fn wait_after_failure(&self, backoff: &mut Backoff) {
        let drain = &self.stop.drain;
        let ceiling = backoff.ceiling_after_failure();
        if drain.is_cancelled() {
            sleep(jittered(ceiling.min(PAUSE_DRAINING_MAX))).await;
        } else {
            // A signal to stop ends the pause, since time is short from now on.
            drain.run_until_cancelled(sleep(jittered(ceiling))).await;
        }
    }

    fn say_away(&self, silence: &mut Option<Silence>, error: &ReceiptError) {
        let Server { host, port, .. } = &self.target.server;
        let waiting_lines = self.backlog.borrow().lines();
        match silence {
            Some(silence) => {
                silence.attempts += 1;
                tracing::debug!(
                    event = "server_still_lost",
                    host,
                    port,
                    %error,
                    attempts = silence.attempts,
                    waiting_lines,
                    "logd is still unreachable"
                );
            }
            None => {
                *silence = Some(Silence { since: Instant::now(), attempts: 1 });
                tracing::warn!(
                    event = "server_lost",
                    host,
                    port,
                    %error,
                    waiting_lines,
                    "logd is unreachable, retrying until it is back"
                );
            }
        }
    }

    fn say_back(&self, silence: Option<&Silence>) {
        let Some(Silence { since, attempts }) = silence else { return };
        let Server { host, port, .. } = &self.target.server;
        let waiting_lines = self.backlog.borrow().lines();
        let away_seconds = since.elapsed().as_secs();
        tracing::info!(
            event = "server_returned",
            host,
            port,
            attempts,
            away_seconds,
            waiting_lines,
            "logd is back"
        );
    }
}
