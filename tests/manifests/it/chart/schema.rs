//! The schema knows every value and refuses everything else with a message that names it.

use crate::chart::engine::answers;
use crate::chart::values::{all, nested, settings};
use crate::pod::{judge, unless};
use crate::rendering::text;
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(&text("k8s/chart/values.schema.json")).unwrap()
}

/// Follows a `$ref` to a definition.
fn resolved<'a>(schema: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        Some(path) => schema.pointer(path).unwrap_or_else(|| panic!("no {path}")),
        None => part,
    }
}

#[test]
fn schema_has_exactly_the_values() {
    let (schema, mut wrong) = (schema(), Vec::new());
    compare(&schema, &schema, &all(), &mut Vec::new(), &mut wrong);
    judge(wrong);
}

fn compare(schema: &Value, part: &Value, values: &Value, path: &mut Vec<String>, wrong: &mut Vec<String>) {
    let part = resolved(schema, part);
    let Some(known) = part["properties"].as_object() else { return };
    let place = path.join(".");
    wrong.extend(unless(
        part["additionalProperties"] == false,
        format!("{place}: write \"additionalProperties\": false"),
    ));
    let Some(values) = values.as_object() else {
        return wrong.push(format!("{place}: values.yaml has no such section"));
    };
    for name in known.keys().filter(|name| !values.contains_key(*name) && *name != "global") {
        wrong.push(format!("{place}.{name}: the schema has it, values.yaml does not"));
    }
    for (name, value) in values {
        path.push(name.clone());
        match known.get(name) {
            Some(part) => compare(schema, part, value, path, wrong),
            None => wrong.push(format!("{}: values.yaml has it, the schema does not", path.join("."))),
        }
        path.pop();
    }
}

/// Returns a value of another type than this one.
fn mistyped(value: &Value) -> Value {
    if value.is_string() { json!(["mistyped"]) } else { json!("mistyped") }
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn mistyped_values_are_refused_by_name() {
    let settings = settings();
    let requests: Vec<Value> =
        settings.iter().map(|setting| json!({"values": setting.set(mistyped(&setting.default))})).collect();
    judge(answers(&requests).into_iter().zip(&settings).filter_map(|(answer, setting)| {
        let named = format!("at '/{}'", setting.path.join("/"));
        let name = setting.name();
        match answer {
            Ok(_) => Some(format!("{name}: {} is accepted", mistyped(&setting.default))),
            Err(error) => unless(error.contains(&named), format!("{name}: no {named:?} in {error}")),
        }
    }));
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn unknown_values_are_refused_by_name() {
    let mut sections: Vec<Vec<String>> =
        settings().iter().map(|setting| setting.path[..setting.path.len() - 1].to_vec()).collect();
    sections.dedup();
    let misspelt = |section: &Vec<String>| json!({"values": nested(section, json!({"misspelt": 1}))});
    let requests: Vec<Value> = sections.iter().map(misspelt).collect();
    judge(answers(&requests).into_iter().zip(&sections).filter_map(|(answer, section)| {
        let place: String = section.iter().map(|name| format!("/{name}")).collect();
        let named = format!("at '{place}': additional properties 'misspelt' not allowed");
        match answer {
            Ok(_) => Some(format!("{place}/misspelt is accepted")),
            Err(error) => unless(error.contains(&named), format!("no {named:?} in {error}")),
        }
    }));
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn impossible_values_are_refused_by_name() {
    let cases = [
        (json!({"logd": {"hostPort": 0}}), "/logd/hostPort"),
        (json!({"logd": {"hostPort": 65536}}), "/logd/hostPort"),
        (json!({"logd": {"hostPath": "var/lib/logd"}}), "/logd/hostPath"),
        (json!({"logd": {"maxUnavailable": "many"}}), "/logd/maxUnavailable"),
        (json!({"logd": {"image": {"digest": "sha256:12"}}}), "/logd/image/digest"),
        (json!({"logd": {"extraEnv": [{"value": "nameless"}]}}), "/logd/extraEnv/0"),
        (json!({"logd": {"resources": {"limit": {"memory": "1Gi"}}}}), "/logd/resources"),
        (json!({"image": {"pullPolicy": "Sometimes"}}), "/image/pullPolicy"),
        (json!({"image": {"pullSecrets": ["my-registry"]}}), "/image/pullSecrets/0"),
        (json!({"queued": {"persistence": {"size": "2 GB"}}}), "/queued/persistence/size"),
        (json!({"queued": {"namespace": {"name": "Team"}}}), "/queued/namespace/name"),
        (json!({"logd": {"hostNetwork": true, "hostPort": 7000}}), "logd.hostPort must be 6666"),
    ];
    let requests: Vec<Value> = cases.iter().map(|(values, _)| json!({"values": values})).collect();
    judge(answers(&requests).into_iter().zip(&cases).filter_map(|(answer, (values, named))| match answer {
        Ok(_) => Some(format!("{values} is accepted")),
        Err(error) => unless(error.contains(named), format!("{values}: no {named:?} in {error}")),
    }));
}
