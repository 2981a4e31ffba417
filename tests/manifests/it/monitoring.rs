//! What the Prometheus operator gets is what packaging/monitoring has.

use crate::custom::{PrometheusRuleSpec, Relabeling};
use crate::object::{Object, Typed};
use crate::rendering::{Rendering, all, text};
use serde_json::Value;
use std::collections::BTreeSet;

fn prod() -> &'static Rendering {
    all().iter().find(|rendering| rendering.path == "k8s/rendered/prod.yaml").unwrap()
}

fn monitors() -> Vec<&'static Object> {
    prod().objects.iter().filter(|object| matches!(object.resource, Typed::PodMonitor(_))).collect()
}

/// Which labels become which, and how: `job` and `instance` only.
type Names = BTreeSet<(Vec<String>, Option<String>, Option<String>, String)>;

fn names(relabelings: impl Iterator<Item = (Vec<String>, Option<String>, Option<String>, String)>) -> Names {
    relabelings.filter(|(.., target)| target == "job" || target == "instance").collect()
}

#[test]
fn pod_monitors_name_targets_as_the_scrape_example_does() {
    let example: Value =
        serde_saphyr::from_str(&text("packaging/monitoring/prometheus.yml")).expect("a YAML file");
    let jobs = example["scrape_configs"].as_array().unwrap();
    let job = jobs.iter().find(|job| job["job_name"] == "nodecrew").unwrap();
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let of_example = names(job["relabel_configs"].as_array().unwrap().iter().map(|rule| {
        let sources = rule["source_labels"].as_array().unwrap().iter().filter_map(word).collect();
        let target = word(&rule["target_label"]).unwrap_or_default();
        (sources, word(&rule["regex"]), word(&rule["replacement"]), target)
    }));
    assert_eq!(of_example.len(), 3, "{of_example:?}");
    let monitors = monitors();
    assert_eq!(monitors.len(), 2, "one for each namespace");
    for monitor in monitors {
        let Typed::PodMonitor(monitor) = &monitor.resource else { unreachable!() };
        let endpoint = &monitor.spec.pod_metrics_endpoints[0];
        let relabelings = endpoint.relabelings.iter().map(
            |Relabeling { source_labels, regex, replacement, target_label }| {
                (source_labels.clone(), regex.clone(), replacement.clone(), target_label.clone())
            },
        );
        assert_eq!(names(relabelings), of_example);
    }
}

#[test]
fn prometheus_rule_has_the_alerts_of_the_rules_file() {
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
