//! Readiness, with every reason against it, and liveness of the event loops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

type Reasons = BTreeMap<&'static str, String>;

/// The reason that each agent has until it serves.
const STARTING: &str = "starting";

/// A latch with named reasons, ready while it has none. It feeds `/ready`, systemd and the log.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Reasons>>);

impl Readiness {
    /// Starts with the reason `starting`, which the agent clears.
    pub fn starting() -> Readiness {
        let reasons = BTreeMap::from([(STARTING, "not accepting yet".to_owned())]);
        Readiness(Arc::new(watch::Sender::new(reasons)))
    }

    /// Adds a reason. Repeating one notifies nobody.
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

    /// The reasons, one a line; empty when ready.
    pub fn reasons(&self) -> String {
        self.0.borrow().iter().map(|(what, why)| format!("{what}: {why}\n")).collect()
    }

    /// Notifies whenever a reason is added or removed.
    pub fn changes(&self) -> watch::Receiver<Reasons> {
        self.0.subscribe()
    }
}

/// Pings each event loop, but only on request: an idle agent does not wake up for it.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<Vec<Loop>>>);

/// A loop's name, and the channel to ask it.
type Loop = (&'static str, mpsc::Sender<oneshot::Sender<()>>);

/// The timeout for a loop's answer: far above any iteration, below kubelet's timeout.
const PATIENCE: Duration = Duration::from_secs(5);

impl Liveness {
    fn loops(&self) -> MutexGuard<'_, Vec<Loop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a future to run on the loop's own runtime. It answers as long as that runtime runs.
    pub fn answer_for(&self, name: &'static str) -> impl Future<Output = ()> + Send + use<> {
        let (sender, mut questions) = mpsc::channel::<oneshot::Sender<()>>(4);
        self.loops().push((name, sender));
        async move {
            while let Some(question) = questions.recv().await {
                let _ = question.send(());
            }
        }
    }

    /// The first loop that does not answer, if any.
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
