//! Does the work of the commit path's phases: in a task on the event loop while the log is quick, otherwise
//! in a thread.

use super::{Engine, Shared};
use crate::commit::phase::{By, Event, Phase};
use crate::commit::tail::{Work, Written};
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

/// Marks that the task runs. After the task has ended, each answer is given by the thread that has it.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.task_runs = false;
        give(std::mem::take(&mut state.answers));
    }
}

impl Engine {
    /// Commits once per iteration of the event loop, not once per request. Must be spawned once, on the
    /// runtime of the doors. The thread passes its answers to this task, so that it has to wake only one
    /// task.
    pub(super) async fn keep_committing(self) {
        let shared = &*self.0;
        let _running = Running(shared);
        shared.lock().task_runs = true;
        loop {
            let (phase, due) = {
                let mut state = shared.lock();
                give(std::mem::take(&mut state.answers));
                match state.tail.phase() {
                    Phase::Gathering { .. } => (state.tail.on(Event::Iterated), None),
                    phase => (phase, state.tail.due()),
                }
            };
            match phase {
                // Resumes after every task that is ready now.
                Phase::Gathering { .. } => tokio::task::yield_now().await,
                Phase::Writing(By::EventLoop) => shared.work(By::EventLoop),
                Phase::Writing(By::Thread) | Phase::Syncing => {
                    shared.thread.notify_one();
                    shared.commit.notified().await;
                }
                Phase::Closed => return,
                Phase::Idle | Phase::Lingering { .. } | Phase::Expecting { .. } | Phase::Failing { .. } => {
                    let Some(due) = due else {
                        shared.commit.notified().await;
                        continue;
                    };
                    if tokio::time::timeout_at(due.into(), shared.commit.notified()).await.is_err() {
                        shared.lock().tail.on(Event::Due);
                    }
                }
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
            drop(state);
            self.work(By::Thread);
        }
    }

    /// Does the work of the present phase if it is for this thread.
    fn work(&self, by: By) {
        let work = self.lock().tail.take_work(by);
        match work {
            Some(Work::Write { groups, check }) => self.write(groups, check, by),
            Some(Work::Sync) => self.sync(),
            None => {}
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
        let Written { mut waiters, evict } = state.tail.written(groups, took);
        for (queue, number, place) in evict {
            state.core.evict(queue, number, place);
        }
        if state.tail.works_again() {
            tracing::info!(event = "log_writes_resumed", "the log can be written again");
            self.readiness.clear("log");
        }
        if by == By::Thread && state.task_runs && !state.closing {
            state.answers.append(&mut waiters);
            self.commit.notify_one();
        }
        if state.closing {
            self.thread.notify_all();
        }
        drop(state);
        give(waiters);
        if begins_segment {
            self.housework.notify_all();
        }
    }

    /// Schedules a retry, and reports the first failure in a row.
    fn not_kept(&self, groups: Vec<Group>, failure: &LogFailure) {
        let why = failure.source().map_or_else(|| failure.to_string(), |cause| format!("{failure}: {cause}"));
        self.readiness.block("log", why.clone());
        self.metrics.write_errors.inc();
        if self.lock().tail.unwritten(groups, why.clone()) {
            tracing::error!(
                event = "log_write_failed",
                error = why,
                "the log cannot be written; answers wait until it can"
            );
        }
        self.commit.notify_one();
    }

    fn sync(&self) {
        let event = match self.log.sync() {
            Ok(()) => Event::Done { took: None, answered: 0 },
            Err(error) => {
                let cause = error.source();
                tracing::error!(event = "log_sync_failed", %error, cause, "answers already given may not survive a power loss");
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
