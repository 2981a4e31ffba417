//! Advice about a queue that does not exist: the queues that do, and the one that was probably meant.

use crate::api::Client;
use crate::queue_name::QueueName;
use hyper::Method;
use kit::settings::nearest;

/// A server with more queues is not asked for their names: the answer would be long, and every worker would
/// ask.
const QUEUES_LISTED_MAX: u64 = 1000;
const NAMES_SHOWN_MAX: usize = 8;

/// The rest of a sentence about a missing queue. Empty if the server does not list its queues.
pub(crate) async fn advice(client: &Client, queue: &QueueName) -> String {
    names(client).await.map(|names| others(&queue.to_string(), &names)).unwrap_or_default()
}

/// The names of all queues. `None` if the server does not list them, or has too many.
async fn names(client: &Client) -> Option<Vec<String>> {
    let stats = client.ask(&Method::GET, "/v1/stats", None).await.ok()?;
    if stats["queues"].as_u64()? > QUEUES_LISTED_MAX {
        return None;
    }
    let answer = client.ask(&Method::GET, "/v1/queues", None).await.ok()?;
    let names = answer["queues"].as_array()?.iter().filter_map(|queue| queue["name"].as_str());
    Some(names.map(str::to_owned).collect())
}

fn others(queue: &str, names: &[String]) -> String {
    if names.is_empty() {
        return "; there are no queues yet".to_owned();
    }
    // Compare the lengths too, since a long word and a single letter of it also count as similar.
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
