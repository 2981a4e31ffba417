//! Checks the dashboard and the alert rules: they use only metrics that exist, and link to OPERATIONS.md.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../browser/agent.rs"]
mod agent;
mod promtool;
mod scrape;

use serde_json::Value;
use std::collections::BTreeSet;

const RULES: &str = include_str!("../../../../packaging/monitoring/rules.yaml");
const DASHBOARD: &str = include_str!("../../../../packaging/monitoring/dashboard.json");
const OPERATIONS: &str = include_str!("../../../../OPERATIONS.md");
const METRICS_OF_KIT: &str = include_str!("../../../kit/src/telemetry/metrics.rs");
/// The READMEs that document each agent's metrics. The agent's own tests compare its README with the metrics
/// that it really serves.
const PAGES: [(&str, &str); 4] = [
    ("logd", include_str!("../../../logd/README.md")),
    ("logcd", include_str!("../../../logcd/README.md")),
    ("queued", include_str!("../../../queued/README.md")),
    ("kvd", include_str!("../../../kvd/README.md")),
];

/// Strips the ending that a metric's type adds to its name.
fn bare(name: &str) -> &str {
    let endings = ["_total", "_bucket", "_sum", "_count", "_info"];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Returns the documented metrics: bare names that begin with the agent's name, as on `/metrics`.
fn documented() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (agent, page) in PAGES {
        let table = page.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
        let words = table.split('`').skip(1).step_by(2).map(|word| word.split('{').next().unwrap());
        let prefix = format!("{agent}_");
        names.extend(
            words.map(|word| format!("{prefix}{}", bare(word.strip_prefix(&prefix).unwrap_or(word)))),
        );
    }
    let kit = METRICS_OF_KIT.split('"').skip(1).step_by(2);
    names.extend(
        kit.filter(|word| word.starts_with("process_") || *word == "nodecrew_build").map(str::to_owned),
    );
    names
}

/// Returns every word of the text that begins with the prefix of our metrics.
fn asked_for(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = ["logd_", "logcd_", "queued_", "kvd_", "process_", "nodecrew_"];
    words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix))).collect()
}

fn alerts() -> BTreeSet<&'static str> {
    RULES.split("alert: ").skip(1).map(|rest| rest.lines().next().unwrap()).collect()
}

#[test]
fn each_alert_links_to_its_section() {
    // Third-level headings that look like an alert's name.
    let headings = OPERATIONS.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<&str> = headings.filter(|name| alert_like(name)).collect();
    assert_eq!(sections, alerts());
    for rule in RULES.split("- alert: ").skip(1) {
        let alert = rule.lines().next().unwrap();
        let wanted = format!("/OPERATIONS.md#{}", alert.to_lowercase());
        let url = rule.lines().find_map(|line| line.trim().strip_prefix("runbook_url: "));
        assert!(url.is_some_and(|url| url.ends_with(&wanted)), "{alert}: {url:?} is not …{wanted}");
    }
}

fn alert_like(heading: &str) -> bool {
    let agents = ["Nodecrew", "Logd", "Logcd", "Queued", "Kvd"];
    !heading.contains(' ') && agents.iter().any(|agent| heading.starts_with(agent))
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_queried_metric_exists() {
    let documented = documented();
    for (file, text) in [("rules.yaml", RULES), ("dashboard.json", DASHBOARD)] {
        let names = asked_for(text);
        assert!(names.len() > 15, "{file}: {names:?}");
        let unknown: Vec<_> = names.iter().filter(|name| !documented.contains(bare(name))).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}, which no agent has");
    }
}

#[test]
fn dashboard_describes_each_panel() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert_eq!((&panels[0]["type"], &panels[0]["title"]), (&"row".into(), &"Overview".into()));
    let (rows, panels): (Vec<_>, Vec<_>) = panels.iter().partition(|panel| panel["type"] == "row");
    assert!(rows.len() >= 5 && panels.len() >= 28, "{} rows, {} panels", rows.len(), panels.len());
    for panel in panels {
        let about = panel["description"].as_str().unwrap_or_default();
        assert!(about.len() > 20 && about.ends_with('.'), "{}: no description", panel["title"]);
    }
}

#[test]
fn dashboard_panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(expressions(&dashboard).len() > 30);
    let mut cells = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
    }
}
