//! Selectors find the intended pods, by labels that never change, and the ports that they name exist.

use crate::image::VERSION;
use crate::object::{Object, Typed};
use crate::pod::{Labels, Pod, judge, of_every_pod, unless};
use crate::rendering::{Rendering, all, crew};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// The labels that an object selects in its namespace, and the ports that it names on the selected pods.
struct Choice {
    labels: Labels,
    ports: Vec<IntOrString>,
}

fn choice(object: &Object) -> Option<Choice> {
    let (labels, ports) = match &object.resource {
        Typed::Service(service) => {
            let spec = service.spec.as_ref()?;
            let ports = spec.ports.iter().flatten();
            let targets = ports.map(|port| port.target_port.clone().unwrap_or(IntOrString::Int(port.port)));
            (spec.selector.clone()?, targets.collect())
        }
        Typed::NetworkPolicy(policy) => {
            let spec = policy.spec.as_ref()?;
            let rules = spec.ingress.iter().flatten();
            let ports =
                rules.flat_map(|rule| rule.ports.iter().flatten()).filter_map(|port| port.port.clone());
            (labels_of(spec.pod_selector.as_ref()), ports.collect())
        }
        Typed::PodDisruptionBudget(budget) => {
            (labels_of(budget.spec.as_ref()?.selector.as_ref()), Vec::new())
        }
        Typed::PodMonitor(monitor) => {
            let endpoints = monitor.spec.pod_metrics_endpoints.iter();
            let ports = endpoints.map(|endpoint| IntOrString::String(endpoint.port.clone()));
            (labels_of(Some(&monitor.spec.selector)), ports.collect())
        }
        _ => return None,
    };
    Some(Choice { labels, ports })
}

fn labels_of(selector: Option<&LabelSelector>) -> Labels {
    let Some(selector) = selector else { return Labels::new() };
    assert!(
        selector.match_expressions.is_none(),
        "matchExpressions: {selector:?}: these tests read matchLabels only"
    );
    selector.match_labels.clone().unwrap_or_default()
}

fn misses(rendering: &Rendering, object: &Object, choice: &Choice) -> Vec<String> {
    let place = format!("{}: {object}", rendering.path);
    let pods: Vec<Pod<'_>> = rendering.applied_with().flat_map(Rendering::pods).collect();
    let chosen: Vec<&Pod<'_>> = pods
        .iter()
        .filter(|pod| pod.object.namespace == object.namespace)
        .filter(|pod| choice.labels.iter().all(|label| pod.has_label(label)))
        .collect();
    if chosen.is_empty() {
        return vec![format!("{place}: {:?} selects no pod that is applied with this file", choice.labels)];
    }
    let ports = choice.ports.iter().flat_map(|port| chosen.iter().map(move |pod| (port, pod)));
    let missing = ports.filter(|(port, pod)| pod.port(port).is_none());
    missing
        .map(|(port, pod)| format!("{place}: {} has no port {port:?}: write it under its ports", pod.object))
        .collect()
}

#[test]
fn whatever_selects_pods_finds_some_and_their_ports() {
    let mut seen = 0;
    let choices = all().iter().flat_map(|rendering| {
        rendering.objects.iter().filter_map(move |object| Some((rendering, object, choice(object)?)))
    });
    judge(choices.flat_map(|(rendering, object, choice)| {
        seen += 1;
        misses(rendering, object, &choice)
    }));
    assert!(seen >= 25, "only {seen} objects that select pods");
}

#[test]
fn each_workload_finds_its_own_pods_by_labels_that_never_change() {
    of_every_pod(|pod| {
        let Some(selector) = pod.selector else { return Vec::new() };
        let labels = labels_of(Some(selector));
        let mut wrong: Vec<String> = Vec::new();
        wrong.extend(unless(!labels.is_empty(), "selects every pod: write selector.matchLabels"));
        for label in &labels {
            let (key, value) = label;
            wrong.extend(unless(pod.has_label(label), format!("the template has no label {key}: {value}")));
            let changes = key.contains("version")
                || key.contains("chart")
                || key.contains("hash")
                || value.contains(VERSION);
            wrong.extend(unless(
                !changes,
                format!("{key}: {value} changes with a version, a selector cannot: remove it"),
            ));
        }
        wrong
    });
}

#[test]
fn an_object_has_the_same_selector_in_every_rendering() {
    let mut first: BTreeMap<(String, Option<String>, String), (String, Labels)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for pod in crew().flat_map(Rendering::pods) {
        let Some(selector) = pod.selector else { continue };
        let labels = labels_of(Some(selector));
        let key = (pod.object.kind.clone(), pod.object.namespace.clone(), pod.object.name.clone());
        let (path, known) = first.entry(key).or_insert((pod.rendering.path.clone(), labels.clone()));
        let what = format!(
            "{pod}: selector {labels:?} is another than in {path}: nobody could go from one to the other"
        );
        wrong.extend(unless(labels == *known, what));
    }
    assert!(first.len() >= 3, "{first:?}");
    judge(wrong);
}

#[test]
fn the_crew_has_the_recommended_labels_beside_the_old_one() {
    judge(crew().flat_map(Rendering::pods).flat_map(|pod| {
        let labels = pod.meta.labels.clone().unwrap_or_default();
        let keys =
            ["name", "app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of"];
        let missing = keys.into_iter().filter(move |key| !labels.contains_key(*key));
        missing.map(|key| format!("{pod}: the template has no label {key}")).collect::<Vec<_>>()
    }));
    let objects =
        crew().flat_map(|rendering| rendering.objects.iter().map(move |object| (rendering, object)));
    judge(objects.filter_map(|(rendering, object)| {
        let meta = match &object.resource {
            Typed::DaemonSet(set) => &set.metadata,
            Typed::StatefulSet(set) => &set.metadata,
            Typed::Service(service) => &service.metadata,
            Typed::NetworkPolicy(policy) => &policy.metadata,
            _ => return None,
        };
        let part_of = meta
            .labels
            .iter()
            .flatten()
            .any(|(key, value)| key == "app.kubernetes.io/part-of" && value == "nodecrew");
        unless(
            part_of,
            format!("{}: {object}: write the label app.kubernetes.io/part-of: nodecrew", rendering.path),
        )
    }));
}
