//! With default values the chart gives the objects of k8s/, and each option those of the component that does the
//! same. The namespace of a release exists before its chart, so that the chart has it only on request.

use crate::chart::engine::{accepted, answers, rendered};
use crate::chart::objects::{Objects, differences, key, parse, without_helms};
use crate::chart::values::{everything, merged, nested};
use crate::pod::{judge, unless};
use crate::rendering::{names_in, root, text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn crew() -> Objects {
    overlay("crew")
}

fn overlay(name: &str) -> Objects {
    parse(&text(&format!("k8s/rendered/{name}.yaml")))
}

/// Renders each case and fails with all differences.
#[track_caller]
fn judge_all(cases: Vec<(&str, Value, Objects)>) {
    let values: Vec<Value> = cases.iter().map(|(_, values, _)| values.clone()).collect();
    judge(rendered(&values).into_iter().zip(cases).flat_map(|(text, (name, _, expected))| {
        let different = differences(without_helms(parse(&text)), expected);
        different.into_iter().map(move |what| format!("{name}: {what}"))
    }));
}

fn with_namespace(values: &Value) -> Value {
    merged(values, &json!({"namespace": {"create": true}}))
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn default_objects_are_those_of_kustomize() {
    let mut without_namespace = crew();
    without_namespace.remove("Namespace nodecrew").unwrap();
    judge_all(vec![
        ("default", json!({}), without_namespace),
        ("namespace.create", with_namespace(&json!({})), crew()),
    ]);
}

/// Every overlay, as values.
fn overlays() -> Vec<(&'static str, Value)> {
    let dev = |agent: &str| text(&format!("k8s/overlays/dev/{agent}.toml"));
    let prod = json!({"nodeSelector": {"env": "prod"}});
    vec![
        (
            "dev",
            json!({
                "logd": {"config": dev("logd")},
                "logcd": {"config": dev("logcd")},
                "queued": {"persistence": {"enabled": false}},
            }),
        ),
        ("host-network", json!({"logd": {"hostNetwork": true}})),
        ("openshift", json!({"openshift": {"enabled": true}, "selinux": {"enabled": true}})),
        (
            "prod",
            json!({
                "logd": merged(&prod, &json!({"tls": {"existingSecret": "logd-tls"}})),
                "logcd": prod,
                "queued": {
                    "tls": {"existingSecret": "queued-tls"},
                    "tokens": {"existingSecret": "queued-tokens"},
                },
                "priorityClass": {"create": true},
                "monitoring": {
                    "podMonitor": {"enabled": true},
                    "prometheusRule": {"enabled": true},
                    "dashboard": {"enabled": true},
                },
            }),
        ),
    ]
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn values_give_the_objects_of_every_overlay() {
    let overlays = overlays();
    let names: Vec<&str> = overlays.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, names_in("k8s/overlays"), "write values for every overlay");
    let case = |(name, values): &(&'static str, Value)| (*name, with_namespace(values), overlay(name));
    judge_all(overlays.iter().map(case).collect());
}

const NODES: &str = "nodes";
const QUEUE: &str = "queue";

/// The part of k8s/ that a component changes, and the component's name.
type Component = (&'static str, &'static str);

/// Each option with its value, and the components that do the same.
fn options() -> Vec<(&'static str, Value, Vec<Component>)> {
    let on = || Value::Bool(true);
    vec![
        ("logd.hostNetwork", on(), vec![(NODES, "logd-host-network")]),
        ("logd.tls.existingSecret", "logd-tls".into(), vec![(NODES, "tls-logd")]),
        ("queued.persistence.enabled", false.into(), vec![(QUEUE, "memory")]),
        ("queued.tls.existingSecret", "queued-tls".into(), vec![(QUEUE, "tls-queued")]),
        ("queued.tokens.existingSecret", "queued-tokens".into(), vec![(QUEUE, "tokens")]),
        ("monitoring.podMonitor.enabled", on(), vec![(NODES, "pod-monitors"), (QUEUE, "pod-monitors")]),
        ("monitoring.prometheusRule.enabled", on(), vec![(NODES, "prometheus-rule")]),
        ("monitoring.dashboard.enabled", on(), vec![(NODES, "dashboard")]),
        ("priorityClass.create", on(), vec![(NODES, "priority-class")]),
        ("selinux.enabled", on(), vec![(NODES, "selinux")]),
        ("openshift.enabled", on(), vec![(NODES, "openshift-nodes"), (QUEUE, "openshift-queue")]),
    ]
}

/// Builds k8s/ with more components. Uses the kustomize that `tests/manifests/lint` uses.
fn kustomized(components: &[(&str, &str)]) -> Objects {
    let target = root().join("target");
    std::fs::create_dir_all(&target).unwrap();
    let directory = tempfile::tempdir_in(&target).unwrap();
    let write = |below: &str, text: &str| {
        std::fs::create_dir_all(directory.path().join(below)).unwrap();
        std::fs::write(directory.path().join(below).join("kustomization.yaml"), text).unwrap();
    };
    write("", "resources: [nodes, queue]\n");
    for (part, namespace) in [(NODES, "nodecrew"), (QUEUE, "nodecrew-queue")] {
        let of_part = components.iter().filter(|(of, _)| *of == part);
        let paths: Vec<_> = of_part.map(|(_, name)| format!("../../../k8s/components/{name}")).collect();
        let (base, paths) = (format!("../../../k8s/{part}"), paths.join(", "));
        write(part, &format!("namespace: {namespace}\nresources: [{base}]\ncomponents: [{paths}]\n"));
    }
    let output = Command::new(kustomize()).arg("build").arg(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parse(std::str::from_utf8(&output.stdout).unwrap())
}

fn kustomize() -> PathBuf {
    let fetched = root().join("target/kustomize/kustomize");
    let works = |program: &Path| Command::new(program).arg("version").output().is_ok();
    let found = [PathBuf::from("kustomize"), fetched.clone()].into_iter().find(|program| works(program));
    found.unwrap_or_else(|| {
        let status = Command::new(root().join("k8s/fetch-kustomize")).arg(fetched.parent().unwrap()).status();
        assert!(status.unwrap().success(), "k8s/fetch-kustomize");
        fetched
    })
}

#[test]
#[ignore = "needs Helm's engine, kustomize: just manifests"]
fn options_give_the_objects_of_the_components() {
    let options = options();
    let mut used: Vec<&str> =
        options.iter().flat_map(|(_, _, components)| components.iter().map(|(_, name)| *name)).collect();
    used.push("default-deny"); // a part of nodes and queue, and on by default
    used.sort_unstable();
    used.dedup();
    assert_eq!(used, names_in("k8s/components"), "write an option for every component");
    let path = |name: &str| name.split('.').map(str::to_owned).collect::<Vec<_>>();
    let cases = options.into_iter().map(|(name, value, components)| {
        (name, with_namespace(&nested(&path(name), value)), kustomized(&components))
    });
    judge_all(cases.collect());
}

/// Removes what belongs to an agent, and what is of no use in a namespace without agents.
fn without(agents: &[&str]) -> Objects {
    let mut objects = crew();
    objects.retain(|key, object| {
        let of_agent = |agent: &&str| {
            key.ends_with(&format!("/{agent}"))
                || object["metadata"]["labels"]["app.kubernetes.io/name"] == **agent
        };
        !agents.iter().any(of_agent)
    });
    let namespaces = [("nodecrew", ["logd", "logcd"].as_slice()), ("nodecrew-queue", &["queued"])];
    for (namespace, inside) in namespaces {
        if inside.iter().all(|agent| agents.contains(agent)) {
            objects.remove(&format!("Namespace {namespace}")).unwrap();
            objects.remove(&format!("NetworkPolicy {namespace}/default-deny")).unwrap();
        }
    }
    objects
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn each_agent_can_be_switched_off() {
    let off = |agents: &[&str]| {
        let values = agents.iter().map(|agent| json!({*agent: {"enabled": false}}));
        with_namespace(&values.fold(json!({}), |all, one| merged(&all, &one)))
    };
    let case = |name, agents: &[&str]| (name, off(agents), without(agents));
    judge_all(vec![
        case("logd off", &["logd"]),
        case("logcd off", &["logcd"]),
        case("queued off", &["queued"]),
        case("node agents off", &["logd", "logcd"]),
        case("all off", &["logd", "logcd", "queued"]),
    ]);
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn network_policies_can_be_switched_off() {
    let kept = |keep: &dyn Fn(&str) -> bool| {
        let mut objects = crew();
        objects.retain(|key, _| keep(key));
        objects
    };
    let set = |name: &str| with_namespace(&json!({"networkPolicy": {name: false}}));
    judge_all(vec![
        ("without any", set("enabled"), kept(&|key| !key.starts_with("NetworkPolicy "))),
        ("without default-deny", set("defaultDeny"), kept(&|key| !key.ends_with("/default-deny"))),
    ]);
}

/// Puts the queue into the namespace of the node agents.
fn in_one_namespace() -> Objects {
    let mut objects = Objects::new();
    for (name, mut object) in crew() {
        if object["metadata"]["namespace"] == "nodecrew-queue" {
            object["metadata"]["namespace"] = "nodecrew".into();
        }
        if name != "Namespace nodecrew-queue" {
            objects.insert(key(&object), object);
        }
    }
    objects
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn queue_can_be_in_the_namespace_of_the_release() {
    let one = with_namespace(&json!({"queued": {"namespace": {"name": ""}}}));
    judge_all(vec![("one namespace", one, in_one_namespace())]);
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn every_object_is_in_a_namespace_that_was_asked_for() {
    let values = merged(&everything(), &json!({"queued": {"namespace": {"name": "team"}}}));
    let text = accepted(&[json!({"values": values, "namespace": "agents"})]).remove(0);
    let wide = ["Namespace", "PriorityClass", "SecurityContextConstraints", "ClusterRole"];
    let objects = parse(&text);
    judge(objects.iter().filter_map(|(key, object)| {
        let namespace = object["metadata"]["namespace"].as_str();
        let is_wide = wide.iter().any(|kind| object["kind"] == **kind);
        let asked = matches!(namespace, Some("agents" | "team"));
        unless(asked != is_wide, format!("{key}: in the namespace {namespace:?}"))
    }));
    for name in ["Namespace agents", "Namespace team", "DaemonSet agents/logd", "StatefulSet team/queued"] {
        assert!(objects.contains_key(name), "no {name}");
    }
}

/// Such a policy would cut off every other pod in these namespaces.
#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn default_deny_is_refused_in_a_namespace_of_others() {
    let request = |namespace: &str, deny: bool| {
        let values = json!({"networkPolicy": {"defaultDeny": deny}});
        json!({"values": values, "namespace": namespace})
    };
    let asked = [("default", true), ("kube-system", true), ("default", false), ("team", true)];
    let requests: Vec<Value> = asked.iter().map(|(namespace, deny)| request(namespace, *deny)).collect();
    let answers = answers(&requests);
    for (answer, namespace) in answers.iter().zip(["default", "kube-system"]) {
        let error = answer.as_ref().unwrap_err();
        assert!(error.contains("networkPolicy.defaultDeny") && error.contains(namespace), "{error}");
    }
    assert!(answers[2..].iter().all(Result::is_ok), "{answers:?}");
}
