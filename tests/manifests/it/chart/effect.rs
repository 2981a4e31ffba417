//! Every value changes something, and the usual ones change what a user expects.

use crate::chart::engine::{accepted, rendered};
use crate::chart::objects::parse;
use crate::chart::values::{everything, merged, settings};
use crate::pod::{judge, unless};
use serde_json::{Value, json};

/// Returns another value that the schema allows.
fn another(name: &str, default: &Value) -> Value {
    match (name.rsplit('.').next().unwrap(), default) {
        ("pullPolicy", _) => json!("Always"),
        ("digest", _) => json!(format!("sha256:{}", "a".repeat(64))),
        ("size", _) => json!("3Gi"),
        ("interval", _) => json!("1m"),
        ("hostPath", _) => json!("/other"),
        ("maxUnavailable", _) => json!(2),
        ("resources", _) => json!({"limits": {"memory": "1Gi"}}),
        (_, Value::Bool(on)) => json!(!on),
        (_, Value::Number(number)) => json!(number.as_i64().unwrap() + 1),
        (_, Value::String(_)) => json!("other"),
        (_, Value::Array(_)) => json!([{"name": "other"}]),
        (_, Value::Object(_)) => json!({"other": "thing"}),
        (_, Value::Null) => panic!("{name} has no default"),
    }
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn every_value_changes_the_objects() {
    let settings = settings();
    let of = |setting: &crate::chart::values::Setting| {
        let value = another(&setting.name(), &setting.default);
        setting.set(if setting.name().ends_with("extraArgs") { json!(["--other"]) } else { value })
    };
    // Some values have an effect only with options, others only without them.
    let all = settings.iter().flat_map(|setting| [of(setting), merged(&everything(), &of(setting))]);
    let bases = [json!({}), everything()].into_iter();
    let requests: Vec<Value> = bases.chain(all).map(|values| json!({"values": values})).collect();
    let texts = accepted(&requests);
    let (bases, texts) = texts.split_at(2);
    judge(settings.iter().zip(texts.chunks(2)).filter_map(|(setting, texts)| {
        unless(texts != bases, format!("{} changes no object", setting.name()))
    }));
}

/// Values, an object and a field of it, and what the field then is.
fn cases() -> Vec<(Value, &'static str, &'static str, Value)> {
    let (logd, queued) = ("DaemonSet nodecrew/logd", "StatefulSet nodecrew-queue/queued");
    let digest = format!("sha256:{}", "a".repeat(64));
    vec![
        (
            json!({"image": {"registry": "registry.test/crew", "tag": "v9"}}),
            logd,
            "/spec/template/spec/containers/0/image",
            json!("registry.test/crew/logd:v9"),
        ),
        (
            json!({"image": {"registry": ""}, "logd": {"image": {"repository": "mirror/logd", "tag": "v1"}}}),
            logd,
            "/spec/template/spec/containers/0/image",
            json!("mirror/logd:v1"),
        ),
        (
            json!({"image": {"tag": "v9"}, "queued": {"image": {"digest": digest}}}),
            queued,
            "/spec/template/spec/containers/0/image",
            json!(format!("ghcr.io/nodecrew/queued@{digest}")),
        ),
        (
            json!({"image": {"pullSecrets": [{"name": "my-registry"}]}}),
            queued,
            "/spec/template/spec/imagePullSecrets/0/name",
            json!("my-registry"),
        ),
        (json!({"logd": {"tolerations": []}}), logd, "/spec/template/spec/tolerations", Value::Null),
        (
            json!({"logd": {"affinity": {"nodeAffinity": {"a": 1}}}}),
            logd,
            "/spec/template/spec/affinity/nodeAffinity/a",
            json!(1),
        ),
        (
            json!({"priorityClass": {"create": true}, "logd": {"priorityClassName": "mine"}}),
            logd,
            "/spec/template/spec/priorityClassName",
            json!("mine"),
        ),
        (
            json!({"logd": {"extraArgs": ["--log-level", "debug"]}}),
            logd,
            "/spec/template/spec/containers/0/args/5",
            json!("debug"),
        ),
        (
            json!({"logd": {"extraEnv": [{"name": "TZ", "value": "UTC"}]}}),
            logd,
            "/spec/template/spec/containers/0/env/3",
            json!({"name": "TZ", "value": "UTC"}),
        ),
        (
            json!({"queued": {"podAnnotations": {"a": "b"}}}),
            queued,
            "/spec/template/metadata/annotations/a",
            json!("b"),
        ),
        (
            json!({"queued": {"podLabels": {"a": "b"}}}),
            queued,
            "/spec/template/metadata/labels/a",
            json!("b"),
        ),
        (
            json!({"commonLabels": {"team": "x"}}),
            "Service nodecrew-queue/queue",
            "/metadata/labels/team",
            json!("x"),
        ),
        (
            json!({"queued": {"persistence": {"size": "9Gi", "storageClass": "fast"}}}),
            queued,
            "/spec/volumeClaimTemplates/0/spec",
            json!({
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "fast",
                "resources": {"requests": {"storage": "9Gi"}},
            }),
        ),
        (
            json!({"logd": {"config": "# mine\nsync = \"2s\"\n"}}),
            "ConfigMap nodecrew/logd",
            "/data",
            json!({"logd.toml": "# mine\nsync = \"2s\"\n"}),
        ),
        (
            json!({"networkPolicy": {"queueFrom": [{"podSelector": {}}]}}),
            "NetworkPolicy nodecrew-queue/queued",
            "/spec/ingress",
            json!([
                {"ports": [{"port": "http"}, {"port": "line"}], "from": [{"podSelector": {}}]},
                {"ports": [{"port": "admin"}], "from": [{"namespaceSelector": {}}]},
            ]),
        ),
        (
            json!({"networkPolicy": {"linesFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}),
            "NetworkPolicy nodecrew/logd",
            "/spec/ingress/0/from/0/ipBlock/cidr",
            json!("10.0.0.0/8"),
        ),
    ]
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn usual_values_reach_their_field() {
    let cases = cases();
    let values: Vec<Value> = cases.iter().map(|(values, ..)| values.clone()).collect();
    judge(rendered(&values).iter().zip(&cases).filter_map(|(text, (values, object, field, wanted))| {
        let objects = parse(text);
        let found = objects[*object].pointer(field).cloned().unwrap_or(Value::Null);
        unless(found == *wanted, format!("{values}: {object} {field} is {found}, not {wanted}"))
    }));
}
