//! Turns the server's verdict into a worker's exit code: success only if no item died.

use crate::api::Client;
use crate::flags::Run;
use crate::queue_name::QueueName;
use crate::wire::Until;
use hyper::Method;
use kit::exit::{Exit, Fatal};
use kit::terminal::count;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// A server that does not answer delays the exit of a worker by at most this time.
const ADVICE_WITHIN: Duration = Duration::from_secs(5);

/// The exit of a worker whose queue is done: 65 if items died, unless that is allowed.
pub(crate) async fn conclude(client: &Client, run: &Run, failed: u64) -> Result<Exit, Fatal> {
    let queue = &run.which.queue;
    if failed == 0 {
        return Ok(Exit::Ok);
    }
    if run.allow_dead {
        tracing::warn!(
            event = "items_died",
            %queue,
            dead = failed,
            "items died; --allow-dead makes this a success"
        );
        return Ok(Exit::Ok);
    }
    // The answer only makes the advice specific: without it the advice is general.
    let path = format!("/v1/queues/{queue}");
    let queue_object = timeout(ADVICE_WITHIN, client.ask(&Method::GET, &path, None)).await;
    let queue_object = queue_object.ok().and_then(Result::ok).unwrap_or_default();
    Err(Fatal::new(Exit::Data, died(queue, run.until, failed, &queue_object)))
}

/// Formats how many items died, where they are, and how to retry them.
fn died(queue: &QueueName, until: Until, failed: u64, queue_object: &Value) -> String {
    let state = if until == Until::Empty { "empty" } else { "drained" };
    let dead_letter_queue = queue_object["settings"]["dead_letter_queue"].as_str();
    let advice = match (queue_object["dead"].as_u64(), dead_letter_queue) {
        (Some(0), Some(other)) => {
            format!("they are in queue {other}: look at them with `queuectl peek -q {other}`")
        }
        _ => format!(
            "look at them with `queuectl dead list -q {queue}`, \
             retry them with `queuectl dead redrive -q {queue} --all`"
        ),
    };
    format!(
        "queue {queue} is {state}, but {} died; {advice} (--allow-dead: exit with 0)",
        count(failed, "item")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn advice_names_the_place_of_the_dead_items() {
        let queue = "ad".parse().unwrap();
        let line = died(&queue, Until::Drained, 5, &Value::Null);
        assert_eq!(
            line,
            "queue ad is drained, but 5 items died; look at them with `queuectl dead list -q ad`, \
             retry them with `queuectl dead redrive -q ad --all` (--allow-dead: exit with 0)"
        );
        let moved = json!({"dead": 0, "settings": {"dead_letter_queue": "graves"}});
        let line = died(&queue, Until::Empty, 1, &moved);
        assert!(line.starts_with("queue ad is empty, but 1 item died; they are in queue graves"), "{line}");
    }
}
