//! The text that Helm prints after an installation names only what is there.

use crate::chart::engine::{accepted, rendered};
use crate::chart::objects::parse;
use crate::chart::values::{everything, merged};
use crate::pod::{judge, unless};
use serde_json::{Value, json};

fn notes(values: &[Value]) -> Vec<String> {
    let request = |values: &Value| json!({"values": values, "notes": true});
    accepted(&values.iter().map(request).collect::<Vec<_>>())
}

fn off(agents: &[&str]) -> Value {
    let values = agents.iter().map(|agent| json!({*agent: {"enabled": false}}));
    values.fold(json!({}), |all, one| merged(&all, &one))
}

/// Lists each `-n NAMESPACE KIND/NAME` of the commands, as a key of the rendered objects.
fn named(notes: &str) -> Vec<String> {
    let commands = notes.lines().filter(|line| line.trim_start().starts_with("kubectl"));
    let objects = commands.filter_map(|line| {
        let namespace = line.split_once(" -n ")?.1.split_whitespace().next()?;
        let (kind, name) = line.split_whitespace().find_map(|word| word.split_once('/'))?;
        let kind = ["DaemonSet", "StatefulSet"].iter().find(|known| known.eq_ignore_ascii_case(kind));
        Some(format!("{} {namespace}/{name}", kind.unwrap_or_else(|| panic!("{line}"))))
    });
    objects.collect()
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn notes_name_only_objects_that_are_there() {
    let subsets = [
        off(&[]),
        off(&["logd"]),
        off(&["logcd"]),
        off(&["queued"]),
        off(&["logd", "logcd"]),
        off(&["logd", "queued"]),
        off(&["logd", "logcd", "queued"]),
        everything(),
        json!({"queued": {"namespace": {"name": ""}}}),
    ];
    let all = notes(&subsets).into_iter().zip(rendered(&subsets));
    let mut seen = 0;
    judge(all.zip(&subsets).flat_map(|((notes, objects), values)| {
        let objects = parse(&objects);
        let named = named(&notes);
        seen += named.len();
        let gone = named.into_iter().filter(|key| !objects.contains_key(key));
        gone.map(|key| format!("{values}: the notes name {key}, which is not there")).collect::<Vec<_>>()
    }));
    assert!(seen >= 20, "only {seen} commands");
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn notes_say_what_matters_for_these_values() {
    let cases = [
        (
            json!({}),
            vec!["pod-security.kubernetes.io/enforce=privileged", "http://queue.nodecrew-queue:8080"],
        ),
        (json!({}), vec!["helm test nodecrew -n nodecrew", "send a line and work off an item"]),
        (off(&["logd"]), vec!["To work off an item"]),
        (off(&["queued"]), vec!["To send a line:"]),
        (off(&["logd", "logcd", "queued"]), vec!["Every agent is switched off"]),
        (json!({"queued": {"persistence": {"enabled": false}}}), vec!["lost with the pod"]),
        (
            everything(),
            vec![
                "https://queue.nodecrew-queue:8080",
                "logd-tls",
                "queued-tls",
                "queued-tokens",
                "--tls-name logd",
            ],
        ),
        (json!({"logd": {"tls": {"existingSecret": "s"}}}), vec!["it needs logd.tls.serverName"]),
        (
            json!({"queued": {"tokens": {"existingSecret": "s"}}}),
            vec!["it needs queued.tokens.test.existingSecret", "--token-file"],
        ),
    ];
    let values: Vec<Value> = cases.iter().map(|(values, _)| values.clone()).collect();
    judge(notes(&values).iter().zip(&cases).flat_map(|(notes, (values, words))| {
        let missing = words.iter().filter(|words| !notes.contains(*words));
        missing.map(move |words| format!("{values}: no {words:?} in{notes}")).collect::<Vec<_>>()
    }));
    let quiet = notes(&[json!({"tests": {"enabled": false}})]).remove(0);
    judge([unless(!quiet.contains("helm test"), quiet.clone())].into_iter().flatten());
}
