//! `queuectl stats`: one queue or all of them, once or updated until interrupted.

use crate::flags::Stats;
use crate::manage::{Console, text, verdict};
use hyper::Method;
use kit::exit::Fatal;
use kit::terminal;
use serde_json::Value;
use tokio::time::sleep;

const COLUMNS: [&str; 7] = ["ready", "delayed", "leased", "dead", "acked", "died", "waiting"];

pub(crate) async fn stats(console: &Console<'_>, stats: &Stats) -> Result<(), Fatal> {
    loop {
        let path = match &stats.queue {
            Some(queue) => format!("/v1/queues/{queue}"),
            None => "/v1/queues".to_owned(),
        };
        let answer = console.ask(&Method::GET, &path, None).await;
        match answer {
            Ok(answer) if console.json => terminal::line(&answer)?,
            Ok(answer) if stats.watch => terminal::again(&table(&answer))?,
            Ok(answer) => terminal::line(&table(&answer))?,
            // During `--watch` the server may be away for a while.
            Err(fatal) if stats.watch => tracing::warn!(
                event = "stats_failed",
                error = fatal.one_line(),
                "cannot read the statistics, retrying"
            ),
            Err(fatal) => return Err(fatal),
        }
        if !stats.watch {
            return Ok(());
        }
        sleep(stats.interval).await;
    }
}

fn table(answer: &Value) -> String {
    let one = std::slice::from_ref(answer);
    let queues = answer["queues"].as_array().map_or(one, Vec::as_slice);
    let head = ["QUEUE"].into_iter().map(str::to_owned).chain(COLUMNS.map(str::to_uppercase));
    let head = head.chain(["OLDEST".to_owned(), "VERDICT".to_owned()]).collect();
    let rows = queues.iter().map(|queue| {
        let numbers = COLUMNS.map(|column| text(&queue[column]));
        let oldest = queue["oldest_ready_ms"].as_u64().map_or_else(|| "-".to_owned(), terminal::age);
        [text(&queue["name"])].into_iter().chain(numbers).chain([oldest, state(queue)]).collect()
    });
    terminal::table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

/// Returns the verdict, with `sealed` and `paused` if they apply.
fn state(queue: &Value) -> String {
    let is = |word: &&str| queue[*word] == Value::Bool(true);
    let words = ["sealed", "paused"].into_iter().filter(is).map(str::to_owned);
    [verdict(queue)].into_iter().chain(words).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_a_row() {
        let queue = serde_json::json!({"name": "keygen", "verdict": "working", "sealed": true, "ready": 3,
            "delayed": 0, "leased": 1, "dead": 0, "failed": 0, "acked": 6, "died": 0, "waiting": 2, "oldest_ready_ms": 1520});
        let expected = "QUEUE   READY  DELAYED  LEASED  DEAD  ACKED  DIED  WAITING  OLDEST  VERDICT\n\
                        keygen      3        0       1     0      6     0        2      1s  working, sealed";
        assert_eq!(table(&queue), expected);
        assert_eq!(table(&serde_json::json!({"queues": [queue]})), expected);
    }

    #[test]
    fn failed_items_are_part_of_the_verdict() {
        let queue = serde_json::json!({"name": "ad", "verdict": "drained", "sealed": true, "failed": 5});
        assert!(table(&queue).ends_with("  drained, 5 failed, sealed"), "{}", table(&queue));
    }
}
