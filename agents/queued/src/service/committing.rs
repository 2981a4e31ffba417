//! Does the work of the commit path's phases: in a task on the event loop while the log is quick, otherwise
//! in a thread.

use super::{Engine, Shared};
use crate::commit::phase::{By, Event, Phase};
use crate::commit::tail::{Committed, Work};
use crate::commit::{Durability, Group, LogFailure};
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

fn give(answers: Vec<oneshot::Sender<()>>) {
    for answer in answers {
        // The waiting request may be gone.
        let _ = answer.send(());
    }
}

impl Engine {
    /// Commits once per iteration of the event loop, not once per request. Must be spawned once, on the
    /// runtime of the doors. The thread passes its answers to this task, so that it has to wake only one
    /// task. No request outlives this task: both end with the runtime.
    pub(super) async fn keep_committing(self) {
        let shared = &*self.0;
        let mut due_came = false;
        loop {
            let (phase, due, work) = {
                let mut state = shared.lock();
                give(std::mem::take(&mut state.answers));
                match state.tail.phase() {
                    _ if std::mem::take(&mut due_came) => state.tail.on(Event::Due),
                    Phase::Gathering { .. } => state.tail.on(Event::Iterated),
                    phase => phase,
                };
                // Taken under the same lock: otherwise a group that begins a segment, which is for the
                // thread, might be added in between.
                let work = state.tail.take_work(By::EventLoop);
                (state.tail.phase(), state.tail.due(), work)
            };
            if let Some(work) = work {
                shared.perform(work, By::EventLoop);
                continue;
            }
            match (phase, due) {
                // Resumes after every task that is ready now.
                (Phase::Gathering { .. }, _) => tokio::task::yield_now().await,
                (Phase::Closed, _) => return,
                (_, Some(due)) => {
                    let notified = tokio::time::timeout_at(due.into(), shared.commit.notified()).await;
                    due_came = notified.is_err();
                }
                (Phase::Writing(_) | Phase::Syncing, None) => {
                    shared.thread.notify_one();
                    shared.commit.notified().await;
                }
                (_, None) => shared.commit.notified().await,
            }
        }
    }
}

impl Shared {
    /// Runs the thread: works until the commit path is closed.
    pub(super) fn run_thread(&self) {
        loop {
            let mut state = self.lock();
            while !matches!(state.tail.phase(), Phase::Writing(By::Thread) | Phase::Syncing) {
                if state.tail.phase() == Phase::Closed {
                    return;
                }
                state = self.thread.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let work = state.tail.take_work(By::Thread);
            drop(state);
            if let Some(work) = work {
                self.perform(work, By::Thread);
            }
        }
    }

    fn perform(&self, work: Work, by: By) {
        match work {
            Work::Write { groups, check } => self.write(groups, check, by),
            Work::Sync => self.sync(),
        }
    }

    fn write(&self, mut groups: Vec<Group>, check: bool, by: By) {
        let began = Instant::now();
        let mut keep = || {
            if check {
                self.log.check()?;
            }
            if groups.is_empty() {
                return Ok(None);
            }
            self.log.append(&mut groups)?;
            if self.durability == Durability::Always {
                self.log.sync()?;
            }
            Ok(Some(began.elapsed()))
        };
        match keep() {
            Ok(took) => self.kept(groups, took, by),
            Err(failure) => self.not_kept(groups, &failure),
        }
    }

    fn kept(&self, groups: Vec<Group>, took: Option<Duration>, by: By) {
        if let Some(took) = took {
            self.metrics.commits.inc();
            self.metrics.commit_seconds.observe(took.as_secs_f64());
        }
        let begins_segment = groups.iter().any(|group| group.begins_segment);
        let mut state = self.lock();
        let Committed { mut waiters, evict, works_again } = state.tail.written(groups, took);
        for (queue, number, place) in evict {
            state.core.evict(queue, number, place);
        }
        if works_again {
            self.readiness.clear("log");
        }
        if by == By::Thread && !state.closing {
            state.answers.append(&mut waiters);
            self.commit.notify_one();
        }
        if state.closing {
            self.thread.notify_all();
        }
        drop(state);
        give(waiters);
        if works_again {
            tracing::info!(event = "log_writes_resumed", "the log can be written again");
        }
        if begins_segment {
            self.housework.notify_all();
        }
    }

    /// Schedules a retry, and reports the first of several failures in a row.
    fn not_kept(&self, groups: Vec<Group>, failure: &LogFailure) {
        let why = failure.source().map_or_else(|| failure.to_string(), |cause| format!("{failure}: {cause}"));
        self.metrics.write_errors.inc();
        let first = {
            let mut state = self.lock();
            let first = state.tail.unwritten(groups, why.clone());
            // Done under the lock: a client that sees that queued is not ready must get 507 for its next
            // push.
            self.readiness.block("log", why.clone());
            first
        };
        if first {
            tracing::error!(
                event = "log_write_failed",
                error = why,
                "the log cannot be written; answers wait until it can"
            );
            // Pushes that wait for space are refused from now on.
            self.room.notify_waiters();
        }
        self.commit.notify_one();
        // Wakes the thread too, because it must end if the commit path is closed now.
        self.thread.notify_all();
    }

    fn sync(&self) {
        let event = match self.log.sync() {
            Ok(()) => Event::Done { took: None, answered: 0 },
            Err(error) => {
                let cause = error.source();
                tracing::error!(event = "log_sync_failed", %error, cause, "what was written since the last sync may not survive a power loss");
                Event::Failed
            }
        };
        self.lock().tail.synced(event);
        self.commit.notify_one();
    }

    /// Asks the thread to write and sync everything that is pending, and then to end.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.tail.on(Event::Closing);
        drop(state);
        self.thread.notify_all();
        self.housework.notify_all();
    }
}
