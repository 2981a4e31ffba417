//! The attempts of one item, as a table for a person.

use crate::manage::text;
use kit::terminal;
use serde_json::Value;

const COLUMNS: [&str; 5] = ["ATTEMPT", "WORKER", "LEASED", "END", "REASON"];
const TEXT_CHARS_MAX: usize = 100;

pub(crate) fn table(history: &[Value]) -> String {
    let head = COLUMNS.map(str::to_owned).to_vec();
    let rows: Vec<_> = [head].into_iter().chain(history.iter().map(row)).collect();
    terminal::table(&rows)
}

fn row(attempt: &Value) -> Vec<String> {
    let excerpt = |field: &str| terminal::excerpt(&text(&attempt[field]), TEXT_CHARS_MAX);
    let end = match (attempt["ended"].as_str(), attempt["fate"].as_str()) {
        (None, _) => "still held".to_owned(),
        (Some(ended), None) => ended.to_owned(),
        (Some(ended), Some(fate)) => format!("{ended}, {fate}"),
    };
    vec![text(&attempt["attempt"]), excerpt("worker"), text(&attempt["leased_at"]), end, excerpt("reason")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_attempt_says_who_had_it_and_how_it_ended() {
        let history = json!([
            {"attempt": 1, "worker": "pod-7/12", "ended": "expired", "reason": "the lease expired"},
            {"attempt": 2, "leased_at": "2026-11-21T09:47:20.123Z", "ended": "nacked", "reason": "\u{1b}no", "fate": "moved"},
            {"attempt": 3, "worker": "pod-9/1", "leased_at": "2026-11-21T09:48:20.123Z"},
        ]);
        let table = table(history.as_array().unwrap());
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["1", "pod-7/12", "-", "expired", "the", "lease", "expired"]);
        assert_eq!(rows[2][..5], ["2", "-", "2026-11-21T09:47:20.123Z", "nacked,", "moved"]);
        assert_eq!(rows[3], ["3", "pod-9/1", "2026-11-21T09:48:20.123Z", "still", "held", "-"]);
        assert!(!table.contains('\u{1b}'), "{table:?}");
    }
}
