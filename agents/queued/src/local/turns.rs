//! Once a turn of the event loop, not once a request: groups are written, and answers given.

use super::{Local, Shared, State};
use std::sync::MutexGuard;
use tokio::sync::oneshot;

impl Shared {
    /// Tells those who waited for the disk.
    pub(super) fn answer(&self, mut state: MutexGuard<'_, State>, mut waiters: Vec<oneshot::Sender<()>>) {
        state.answers.append(&mut waiters);
        match state.keeps_turns {
            true => self.turn.notify_one(),
            false => give(&mut state.answers),
        }
    }

    /// Writes what is due here if that is quick, else lets the thread do it.
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

/// `keep_turns` as long as it runs: what it has not done at its end is done then.
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
        // Whoever waited may be gone.
        let _ = answer.send(());
    }
}

impl Local {
    /// What is done once a turn of the event loop and not once a request; to be spawned once, on the runtime of the doors.
    /// Answers that are durable are given from here, so that the writer wakes this one task and not each that waits.
    /// The writer is woken when all requests that have arrived are in the group, not with the first of them.
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
                // Comes back behind everything that is ready now.
                tokio::task::yield_now().await;
                let mut state = self.0.lock();
                let idle = state.writer_idle;
                let seen =
                    state.disk_mut(|front| (front.is_due(), front.urgent, front.waiting(), front.expected));
                let Some((true, urgent, waiting, expected)) = seen.filter(|_| idle) else { break };
                if !urgent {
                    // The thread looks at the clock for what nobody waits for.
                    self.0.wake_writer(&mut state);
                    break;
                }
                // A turn that brought somebody may have a successor that brings the next.
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
