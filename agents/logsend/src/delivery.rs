//! Handing over batch after batch, one at a time, for as long as it takes.

use crate::backlog::Backlog;
use crate::receipt::{NoReceipt, Target};
use crate::sink::Sink;
use kit::backoff::{Backoff, jittered};
use kit::client::Server;
use kit::exit::{Exit, Fatal};
use kit::stop::Stop;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// Least time from one small batch to the next. An idle line is sent at once; a steady trickle shares
/// connections, since each leaves a port in TIME_WAIT for a minute and a host has 28,000 of them.
const PACE: Duration = Duration::from_millis(10);
/// A batch that takes longer than this means that logd cannot keep up, is stuck or out of reach.
const STALLED_AFTER: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// While draining, time is short and an attempt is worth more than politeness.
const PAUSE_DRAINING_MAX: Duration = Duration::from_secs(1);

/// The desk between the input, which puts lines down, and the delivery, which takes them away.
pub(crate) struct Delivery {
    target: Target,
    stop: Stop,
    pub(crate) backlog: RefCell<Backlog>,
    came: Notify,
    room: Notify,
    ended: Cell<bool>,
    last_error: RefCell<String>,
}

/// A time without receipts, told of once when it begins and once when it ends.
struct Absence {
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
        self.came.notify_one();
    }
}

impl Delivery {
    pub(crate) fn new(target: Target, backlog: Backlog, stop: Stop) -> Delivery {
        Delivery {
            target,
            stop,
            backlog: RefCell::new(backlog),
            came: Notify::new(),
            room: Notify::new(),
            ended: Cell::new(false),
            last_error: RefCell::new("no attempt has ended yet".to_owned()),
        }
    }

    /// No more lines will come.
    pub(crate) fn input_ended(&self) {
        self.ended.set(true);
        self.came.notify_one();
    }

    /// The last words: what was done, and what could not be.
    pub(crate) fn close(self, exit: Exit) -> Result<Exit, Fatal> {
        let undelivered = self.backlog.into_inner().close();
        if undelivered == 0 {
            return Ok(exit);
        }
        let Server { host, port, .. } = &self.target.server;
        let error = self.last_error.into_inner();
        let message = format!("{undelivered} lines undelivered to {host}:{port}: {error}");
        // A command's own failure is the more important news, and its code is promised to be passed on.
        let code = if exit.code() == 0 { Exit::TryAgain } else { exit };
        Err(Fatal::new(code, message))
    }

    /// Returns when the input has ended and everything was handed over, or is as safe in the spool.
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        let mut absence = None;
        let mut next = Instant::now();
        while self.has_something().await {
            self.gather_until(next).await;
            next = Instant::now() + PACE;
            match self.attempt().await {
                Ok(()) => {
                    backoff.succeeded();
                    self.say_back(absence.take().as_ref());
                }
                Err(error) => {
                    self.say_away(&mut absence, &error);
                    *self.last_error.borrow_mut() = error.to_string();
                    if self.stop.drain.is_cancelled() && self.ended.get() && self.backlog.borrow().has_spool()
                    {
                        return; // time is short, and the spool keeps it
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
            self.came.notified().await;
        }
        true
    }

    async fn gather_until(&self, moment: Instant) {
        while !self.ended.get() && !self.backlog.borrow().has_full_batch() {
            tokio::select! {
                () = sleep_until(moment) => return,
                () = self.came.notified() => {}
            }
        }
    }

    /// One attempt for the oldest batch. An attempt that takes long means that logd is stuck or out of reach:
    /// what comes meanwhile goes to the spool.
    async fn attempt(&self) -> Result<(), NoReceipt> {
        let exchange = self.connect_and_hand_over();
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

    /// The batch is chosen only once there is a connection: it has grown until then.
    async fn connect_and_hand_over(&self) -> Result<(), NoReceipt> {
        let connection = self.target.connect().await?;
        let batch = self.backlog.borrow_mut().take().map_err(NoReceipt::Spool)?;
        match batch {
            Some(batch) => connection.hand_over(&batch.bytes).await,
            None => Ok(()),
        }
    }

    async fn wait_after_failure(&self, backoff: &mut Backoff) {
        let drain = &self.stop.drain;
        let ceiling = backoff.ceiling_after_failure();
        if drain.is_cancelled() {
            sleep(jittered(ceiling.min(PAUSE_DRAINING_MAX))).await;
        } else {
            // The signal to stop is the reason to try at once: time is short from now on.
            drain.run_until_cancelled(sleep(jittered(ceiling))).await;
        }
    }

    fn say_away(&self, absence: &mut Option<Absence>, error: &NoReceipt) {
        let Server { host, port, .. } = &self.target.server;
        let waiting_lines = self.backlog.borrow().lines();
        match absence {
            Some(absence) => {
                absence.attempts += 1;
                tracing::debug!(host, port, %error, attempts = absence.attempts, waiting_lines, "still away");
            }
            None => {
                *absence = Some(Absence { since: Instant::now(), attempts: 1 });
                tracing::warn!(host, port, %error, waiting_lines, "logd is away, trying again until it is back");
            }
        }
    }

    fn say_back(&self, absence: Option<&Absence>) {
        let Some(Absence { since, attempts }) = absence else { return };
        let Server { host, port, .. } = &self.target.server;
        let waiting_lines = self.backlog.borrow().lines();
        let away_seconds = since.elapsed().as_secs();
        tracing::info!(host, port, attempts, away_seconds, waiting_lines, "logd is back");
    }
}
