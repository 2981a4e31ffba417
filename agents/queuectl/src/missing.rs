//! A worker's queue that does not exist: says so once, with the queues that do.

use crate::api::Client;
use crate::queue_name::QueueName;
use hyper::Method;
use kit::settings::nearest;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// A lease request waits this long while the queue is not known to exist, so that a mistyped name is reported soon.
const WAIT_WHILE_UNKNOWN: Duration = Duration::from_secs(1);
/// A lease request waits this long for an item or the verdict; shorter than the idle limits of proxies.
const WAIT: Duration = Duration::from_secs(20);
/// A server with more queues is not asked for their names: the answer would be long, and every worker would ask.
const QUEUES_LISTED_MAX: u64 = 1000;
const NAMES_SHOWN_MAX: usize = 8;

/// Shared by the slots of a worker.
pub(crate) struct MissingQueue {
    queue: QueueName,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Exists,
    /// Missing, and the log says so.
    Reported,
}

impl MissingQueue {
    pub(crate) fn new(queue: QueueName) -> MissingQueue {
        MissingQueue { queue, state: Mutex::new(State::Unknown) }
    }

    /// How long the next lease request waits.
    pub(crate) fn wait(&self) -> Duration {
        if self.swap(None) == State::Unknown { WAIT_WHILE_UNKNOWN } else { WAIT }
    }

    /// Notes that the server knows the queue.
    pub(crate) fn exists(&self) {
        if self.swap(Some(State::Exists)) == State::Reported {
            tracing::info!(queue = %self.queue, "the queue exists now");
        }
    }

    /// Reports that the server does not know the queue, unless the log says so already.
    pub(crate) async fn report(&self, client: &Client) {
        if self.swap(Some(State::Reported)) == State::Reported {
            return;
        }
        let others =
            names(client).await.map(|names| others(&self.queue.to_string(), &names)).unwrap_or_default();
        tracing::warn!("waiting for queue {} to be made{others}", self.queue);
    }

    /// The state so far, replaced by `new` if there is one.
    fn swap(&self, new: Option<State>) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *state;
        *state = new.unwrap_or(before);
        before
    }
}

/// The names of all queues. `None` if the server does not say, or has too many.
pub(crate) async fn names(client: &Client) -> Option<Vec<String>> {
    let stats = client.ask(&Method::GET, "/v1/stats", None).await.ok()?;
    if stats["queues"].as_u64()? > QUEUES_LISTED_MAX {
        return None;
    }
    let answer = client.ask(&Method::GET, "/v1/queues", None).await.ok()?;
    let names = answer["queues"].as_array()?.iter().filter_map(|queue| queue["name"].as_str());
    Some(names.map(str::to_owned).collect())
}

/// The rest of a sentence about a missing queue: the name that was probably meant, and what exists.
pub(crate) fn others(queue: &str, names: &[String]) -> String {
    if names.is_empty() {
        return "; there are no queues yet".to_owned();
    }
    // The similarity of a long word and a single letter of it is high, too.
    let as_long = |name: &&str| name.len().abs_diff(queue.len()) <= 1 + queue.len() / 3;
    let similar = nearest(names.iter().map(String::as_str).filter(as_long), queue);
    let similar = similar.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    let shown = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let join = if similar.is_empty() { ";" } else { "" };
    format!("{similar}{join} there are: {shown}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_name_comes_first_and_long_lists_are_cut() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(others("nubmers", &[]), "; there are no queues yet");
        assert_eq!(others("nubmers", &names(&["a", "b"])), "; there are: a, b");
        assert_eq!(
            others("nubmers", &names(&["a", "numbers"])),
            "; did you mean numbers? there are: a, numbers"
        );
        let many: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        assert_eq!(others("nubmers", &many), "; there are: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
