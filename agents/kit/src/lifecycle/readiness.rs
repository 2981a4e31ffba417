//! Readiness, with the reasons why an agent is not ready, and the liveness of its event loops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

type Reasons = BTreeMap<&'static str, String>;

/// The reason that each agent has until it serves.
const STARTING: &str = "starting";

/// A set of named reasons against readiness: the agent is ready while the set is empty. `/ready`, systemd and
/// the log follow it.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Reasons>>);

impl Readiness {
    /// Starts with the reason `starting`, which the agent clears once it is ready to work.
    pub fn starting() -> Readiness {
        let reasons = BTreeMap::from([(STARTING, "not accepting yet".to_owned())]);
        Readiness(Arc::new(watch::Sender::new(reasons)))
    }

    /// Adds or replaces a reason. The same reason again notifies nobody.
    pub fn block(&self, what: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.0.send_if_modified(|reasons| reasons.insert(what, reason.clone()).as_ref() != Some(&reason));
    }

    /// Removes a reason.
    pub fn clear(&self, what: &'static str) {
        self.0.send_if_modified(|reasons| reasons.remove(what).is_some());
    }

    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// True as soon as the agent cleared `starting`, although it may not be ready for another reason.
    pub fn has_started(&self) -> bool {
        !self.0.borrow().contains_key(STARTING)
    }

    /// Returns the reasons, one a line, or an empty text if the agent is ready.
    pub fn reasons(&self) -> String {
        self.0.borrow().iter().map(|(what, why)| format!("{what}: {why}\n")).collect()
    }

    /// Returns a receiver that is notified of each added, changed or removed reason.
    pub fn changes(&self) -> watch::Receiver<Reasons> {
        self.0.subscribe()
    }
}

/// Asks each event loop for an answer when a probe comes. No timer runs, so an idle agent does not wake up.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<Vec<Loop>>>);

/// The name of an event loop, and a channel for questions to it.
type Loop = (&'static str, mpsc::Sender<oneshot::Sender<()>>);

/// The timeout for a loop's answer: far above the time of an iteration.
const PATIENCE: Duration = Duration::from_secs(5);

impl Liveness {
    fn loops(&self) -> MutexGuard<'_, Vec<Loop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a future to spawn on the loop's own runtime. It answers while that loop makes progress.
    pub fn answer_for(&self, name: &'static str) -> impl Future<Output = ()> + Send + use<> {
        let (sender, mut questions) = mpsc::channel::<oneshot::Sender<()>>(4);
        self.loops().push((name, sender));
        async move {
            while let Some(question) = questions.recv().await {
                let _ = question.send(());
            }
        }
    }

    /// Returns the name of the first loop that does not answer, if there is one.
    pub async fn stuck(&self) -> Option<&'static str> {
        let loops = self.loops().clone();
        for (name, loop_) in loops {
            let ask = async {
                let (sender, answer) = oneshot::channel();
                loop_.send(sender).await.ok()?;
                answer.await.ok()
            };
            if tokio::time::timeout(PATIENCE, ask).await.ok().flatten().is_none() {
                return Some(name);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_without_reasons() {
        let readiness = Readiness::starting();
        assert!(!readiness.is_ready());
        readiness.block("disk", "no space left on device");
        assert!(!readiness.has_started());
        readiness.clear("starting");
        assert!(readiness.has_started() && !readiness.is_ready());
        assert_eq!(readiness.reasons(), "disk: no space left on device\n");
        readiness.clear("disk");
        assert!(readiness.is_ready());
    }

    #[test]
    fn only_a_change_is_announced() {
        let readiness = Readiness::starting();
        let mut changes = readiness.changes();
        changes.mark_unchanged();
        readiness.block("starting", "not accepting yet");
        assert!(!changes.has_changed().unwrap());
        readiness.block("starting", "still binding");
        assert!(changes.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn stuck_loop_is_named() {
        let liveness = Liveness::default();
        tokio::spawn(liveness.answer_for("turning"));
        assert_eq!(liveness.stuck().await, None);
        let _never_polled = liveness.answer_for("stuck");
        assert_eq!(liveness.stuck().await, Some("stuck"));
    }
}
