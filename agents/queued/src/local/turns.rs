//! Writes groups and gives answers once per iteration of the event loop, not once per request.

use super::{Local, Shared, State};
use std::sync::MutexGuard;
use tokio::sync::oneshot;

impl Shared {
    /// Notifies the requests that waited for the disk.
    pub(super) fn answer(&self, mut state: MutexGuard<'_, State>, mut waiters: Vec<oneshot::Sender<()>>) {
        state.answers.append(&mut waiters);
        match state.keeps_turns {
            true => self.turn.notify_one(),
            false => give(&mut state.answers),
        }
    }

    /// Writes pending groups here if that is quick, else lets the thread do it.
    fn write(&self) {
        let here =
            self.pen.get().and_then(|pen| pen.try_lock().ok()).is_some_and(|mut pen| pen.write_here(self));
        if !here {
            self.wake_writer(&mut self.lock());
        }
    }

    pub(super) fn wake_writer(&self, state: &mut State) {
        state.writer_idle = false;
        self.work.notify_all();
    }
}

/// Exists while `keep_turns` runs; on drop it completes the work that `keep_turns` left.
struct Turns<'a>(&'a Shared);

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.keeps_turns = false;
        give(&mut state.answers);
        self.0.wake_writer(&mut state);
    }
}

fn give(answers: &mut Vec<oneshot::Sender<()>>) {
    for answer in answers.drain(..) {
        // The waiting request may be gone.
        let _ = answer.send(());
    }
}

impl Local {
    /// Writes and answers once per iteration of the event loop; to be spawned once, on the runtime of the
    /// doors. Durable answers are given from here, so that the writer wakes only this task, not each waiting
    /// one. The writer is woken when all requests that have arrived are in the group, not with the first of
    /// them.
    pub(super) async fn keep_turns(self) {
        let _turns = Turns(&self.0);
        self.0.lock().keeps_turns = true;
        let mut answers = Vec::new();
        loop {
            self.0.turn.notified().await;
            std::mem::swap(&mut answers, &mut self.0.lock().answers);
            give(&mut answers);
            let mut arrived = 0;
            loop {
                // Resumes after every task that is ready now.
                tokio::task::yield_now().await;
                let mut state = self.0.lock();
                let idle = state.writer_idle;
                let seen =
                    state.disk_mut(|front| (front.is_due(), front.urgent, front.waiting(), front.expected));
                let Some((true, urgent, waiting, expected)) = seen.filter(|_| idle) else { break };
                if !urgent {
                    // The thread itself times the groups that nobody waits for.
                    self.0.wake_writer(&mut state);
                    break;
                }
                // If this iteration brought a request, the next one may bring another.
                if waiting > arrived && waiting < expected {
                    arrived = waiting;
                    continue;
                }
                drop(state);
                self.0.write();
                break;
            }
        }
    }
}
