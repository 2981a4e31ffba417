//! The Prometheus operator gets the same rules as packaging/monitoring has.

use crate::custom::{PrometheusRuleSpec, Relabeling};
use crate::object::Typed;
use crate::rendering::{Rendering, all, text};
use serde_json::Value;

fn prod() -> &'static Rendering {
    all().iter().find(|rendering| rendering.path == "k8s/rendered/prod.yaml").unwrap()
}

/// Selects the rules that set `job` and `instance`, in their order.
fn naming(rules: impl IntoIterator<Item = Relabeling>) -> Vec<Relabeling> {
    let names = ["job", "instance"];
    rules.into_iter().filter(|rule| names.contains(&rule.target_label.as_str())).collect()
}

#[test]
fn pod_monitors_match_the_scrape_example() {
    let example: Value =
        serde_saphyr::from_str(&text("packaging/monitoring/prometheus.yml")).expect("a YAML file");
    let jobs = example["scrape_configs"].as_array().unwrap();
    let job = jobs.iter().find(|job| job["job_name"] == "nodecrew").unwrap();
    // Rules that keep or drop a target have no label to write to, and do not parse.
    let rules = job["relabel_configs"].as_array().unwrap().iter();
    let rules = rules.filter_map(|rule| serde_json::from_value(rule.clone()).ok());
    let of_example = naming(rules);
    assert_eq!(of_example.len(), 3, "{of_example:?}");
    let monitors: Vec<_> = prod()
        .objects
        .iter()
        .filter_map(|object| match &object.resource {
            Typed::PodMonitor(monitor) => Some(&monitor.spec),
            _ => None,
        })
        .collect();
    assert_eq!(monitors.len(), 2, "one for each namespace");
    for monitor in monitors {
        assert_eq!(naming(monitor.pod_metrics_endpoints[0].relabelings.clone()), of_example);
    }
}

#[test]
fn prometheus_rule_matches_the_rules_file() {
    let rules: PrometheusRuleSpec =
        serde_saphyr::from_str(&text("packaging/monitoring/rules.yaml")).expect("groups of alerts");
    let rendered: Vec<_> = prod()
        .objects
        .iter()
        .filter_map(|object| match &object.resource {
            Typed::PrometheusRule(rule) => Some(&rule.spec),
            _ => None,
        })
        .collect();
    assert_eq!(rendered.len(), 1, "once for the cluster");
    assert_eq!(format!("{:?}", rendered[0]), format!("{rules:?}"), "run k8s/render");
}
