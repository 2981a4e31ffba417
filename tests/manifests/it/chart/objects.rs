//! Objects as plain values, compared field by field.

use crate::chart::engine::RELEASE;
use crate::image::VERSION;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Objects by kind, namespace and name, such as `DaemonSet nodecrew/logd`.
pub type Objects = BTreeMap<String, Value>;

#[track_caller]
pub fn parse(text: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut objects = Objects::new();
    for mut object in documents.into_iter().filter(|object| !object.is_null()) {
        // kustomize does not know that this kind of OpenShift is in no namespace.
        if object["kind"] == "SecurityContextConstraints" {
            object["metadata"].as_object_mut().unwrap().remove("namespace");
        }
        let key = key(&object);
        assert!(objects.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    objects
}

pub fn key(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    match text("/metadata/namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// Removes the labels and annotations that only Helm needs. Every object must have the labels.
#[track_caller]
pub fn without_helms(mut objects: Objects) -> Objects {
    let labels = [
        ("helm.sh/chart", format!("nodecrew-{VERSION}")),
        ("app.kubernetes.io/managed-by", "Helm".to_owned()),
        ("app.kubernetes.io/instance", RELEASE.to_owned()),
        ("app.kubernetes.io/version", VERSION.to_owned()),
    ];
    for (key, object) in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        for (label, wanted) in &labels {
            let value = metadata["labels"].as_object_mut().and_then(|labels| labels.remove(*label));
            assert_eq!(value, Some(Value::from(wanted.as_str())), "{key}: the label {label}");
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("helm.sh/resource-policy");
        }
    }
    objects
}

/// Removes maps without entries under `labels` and `annotations`: they say the same as none.
fn without_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                !(is_empty && ["labels", "annotations"].contains(&name.as_str()))
            });
            fields.values_mut().for_each(without_empty);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty),
        _ => {}
    }
}

/// Names each object and field in which the chart differs from k8s/.
pub fn differences(mut chart: Objects, mut kustomize: Objects) -> Vec<String> {
    chart.values_mut().for_each(without_empty);
    kustomize.values_mut().for_each(without_empty);
    let mut found = Vec::new();
    let keys: BTreeSet<&String> = chart.keys().chain(kustomize.keys()).collect();
    for key in keys {
        match (chart.get(key), kustomize.get(key)) {
            (Some(chart), Some(kustomize)) => compare(&format!("{key}: "), chart, kustomize, &mut found),
            (None, _) => found.push(format!("{key}: the chart does not have it")),
            (_, None) => found.push(format!("{key}: only the chart has it")),
        }
    }
    found
}

fn compare(path: &str, chart: &Value, kustomize: &Value, found: &mut Vec<String>) {
    let below =
        |name: &dyn std::fmt::Display| format!("{path}{}{name}", if path.ends_with(": ") { "" } else { "." });
    match (chart, kustomize) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let of = |fields: &serde_json::Map<String, Value>| {
                    fields.get(name).cloned().unwrap_or(Value::Null)
                };
                compare(&below(name), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for i in 0..a.len().max(b.len()) {
                let of = |items: &[Value]| items.get(i).cloned().unwrap_or(Value::Null);
                compare(&below(&i), &of(a), &of(b), found);
            }
        }
        _ if chart == kustomize => {}
        _ => found.push(format!("{path} is {chart} in the chart and {kustomize} in k8s/")),
    }
}

#[test]
fn differences_name_object_and_field() {
    let object = |port: u16, more: &str| {
        let text = format!(
            "kind: Service\nmetadata: {{name: queue, namespace: team}}\nspec: {{ports: [{{port: {port}}}{more}]}}"
        );
        parse(&text)
    };
    let same = differences(object(1, ""), object(1, ""));
    assert!(same.is_empty(), "{same:?}");
    assert_eq!(
        differences(object(1, ""), object(2, ", {port: 3}")),
        [
            "Service team/queue: spec.ports.0.port is 1 in the chart and 2 in k8s/",
            "Service team/queue: spec.ports.1 is null in the chart and {\"port\":3} in k8s/",
        ]
    );
    assert_eq!(
        differences(Objects::new(), object(1, "")),
        ["Service team/queue: the chart does not have it"]
    );
    assert_eq!(differences(object(1, ""), Objects::new()), ["Service team/queue: only the chart has it"]);
}
