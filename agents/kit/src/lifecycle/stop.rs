//! Stops the process: the first SIGTERM or SIGINT drains, a second one or the end of the drain time aborts.
//! SIGHUP reopens and reloads.

use crate::exit::{Exit, Fatal};
use nix::sys::signal::{SigSet, Signal as Number};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Makes a write above the file-size limit fail, instead of ending the process. The signal is caught, not
/// ignored, so that commands of this process get the default back. Must be called within a runtime.
pub fn survive_size_limit() -> Result<(), Fatal> {
    let caught = signal(SignalKind::from_raw(nix::libc::SIGXFSZ));
    caught.map(drop).map_err(|e| Fatal::new(Exit::System, "cannot catch signals").because(e))
}

/// Signals that a `Stop` listens to.
fn listened() -> SigSet {
    [Number::SIGTERM, Number::SIGINT, Number::SIGHUP].into_iter().collect()
}

/// Holds signals back until a `Stop` listens to them, so that a signal during start-up does not kill the
/// process. Must be called before any thread is started.
pub fn hold_signals() {
    // The call fails only for an unknown operation.
    let _ = listened().thread_block();
}

/// The stop of one process. Every task that must end in order has a clone.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Cancelled when nothing new may start.
    pub drain: CancellationToken,
    /// Cancelled when unfinished work must be dropped.
    pub abort: CancellationToken,
    hangups: watch::Receiver<u64>,
    hangup: watch::Sender<u64>,
    drain_timeout: Duration,
}

impl Stop {
    /// A stop that only code triggers, for tests and for parts of a process.
    pub fn by_hand(drain_timeout: Duration) -> Stop {
        let (hangup, hangups) = watch::channel(0);
        Stop {
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            hangups,
            hangup,
            drain_timeout,
        }
    }

    /// Returns a token that is cancelled `linger` after the drain began, or at the abort. Until then requests
    /// are accepted: load balancers and clients learn of the end late.
    pub fn after_linger(&self, linger: Duration) -> CancellationToken {
        let (drain, abort, closing) = (self.drain.clone(), self.abort.clone(), CancellationToken::new());
        let cancel = closing.clone();
        tokio::spawn(async move {
            drain.cancelled().await;
            tracing::info!(
                event = "lingering",
                ?linger,
                "still accepting requests for --linger; a second signal stops at once"
            );
            let _ = abort.run_until_cancelled(tokio::time::sleep(linger)).await;
            cancel.cancel();
        });
        closing
    }

    /// A stop that follows this process's signals. Must be called within a runtime.
    pub fn on_signals(drain_timeout: Duration) -> Result<Stop, Fatal> {
        let handler =
            |kind| signal(kind).map_err(|e| Fatal::new(Exit::System, "cannot catch signals").because(e));
        let (terminate, interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
        let hangup = handler(SignalKind::hangup())?;
        survive_size_limit()?;
        let _ = listened().thread_unblock();
        let stop = Stop::by_hand(drain_timeout);
        tokio::spawn(stop.clone().follow(terminate, interrupt, hangup));
        Ok(stop)
    }

    async fn follow(self, mut terminate: Signal, mut interrupt: Signal, mut hangup: Signal) {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hangup.recv() => {
                    self.hang_up();
                    continue;
                }
            };
            if self.drain.is_cancelled() {
                tracing::warn!(
                    event = "drain_aborted",
                    signal = name,
                    "second signal: stopping without finishing the work"
                );
                self.abort.cancel();
            } else {
                tracing::info!(
                    event = "drain_started",
                    signal = name,
                    drain_timeout = ?self.drain_timeout,
                    "draining"
                );
                self.begin_drain();
            }
        }
    }

    /// Drains now, and aborts when the drain time is over.
    pub fn begin_drain(&self) {
        if self.drain.is_cancelled() {
            return;
        }
        self.drain.cancel();
        let (abort, timeout) = (self.abort.clone(), self.drain_timeout);
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(timeout) => {
                    tracing::warn!(
                        event = "drain_timed_out",
                        drain_timeout = ?timeout,
                        "the drain timeout is over: stopping without finishing the work"
                    );
                    abort.cancel();
                }
                () = abort.cancelled() => {}
            }
        });
    }

    /// Asks for a reopen and reload, as SIGHUP does.
    pub fn hang_up(&self) {
        self.hangup.send_modify(|count| *count += 1);
    }

    /// Changes each time a reopen and reload is asked for.
    pub fn hangups(&self) -> watch::Receiver<u64> {
        let mut hangups = self.hangups.clone();
        hangups.mark_unchanged();
        hangups
    }
}
