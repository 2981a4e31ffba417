//! `helm test` runs small pods of our own images, which need no more rights than `restricted` allows and are
//! reached by no other policy than their own.

use crate::chart::engine::accepted;
use crate::chart::objects::{Objects, key, parse};
use crate::chart::values::everything;
use crate::confinement;
use crate::image;
use crate::pod::{judge, unless};
use crate::rendering::Rendering;
use crate::run::{self, Call};
use serde_json::{Value, json};

const LOGD: &str = "Pod nodecrew/nodecrew-test-logd";
const QUEUED: &str = "Pod nodecrew-queue/nodecrew-test-queued";

/// Renders the hooks alone.
#[track_caller]
fn hooks(values: &[Value]) -> Vec<String> {
    let request = |values: &Value| json!({"values": values, "hooks": true});
    accepted(&values.iter().map(request).collect::<Vec<_>>())
}

fn keys(text: &str) -> Vec<String> {
    parse(text).keys().filter(|key| key.starts_with("Pod ")).cloned().collect()
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn test_pods_are_confined_and_call_the_agents() {
    let texts = hooks(&[json!({}), everything()]);
    for text in &texts {
        assert_eq!(keys(text), [QUEUED, LOGD]);
        let rendering = Rendering::parse("the hooks", text).unwrap();
        let pods = rendering.pods();
        judge(pods.iter().flat_map(|pod| {
            let mut wrong = confinement::beyond_restricted(pod);
            for container in pod.containers() {
                wrong.extend(unless(
                    image::of(container).is_some(),
                    format!("{:?} is none of our images", container.image),
                ));
                wrong.extend(calls_other_than_agents(run::of(pod, container)));
            }
            wrong.into_iter().map(move |what| format!("{pod}: {what}")).collect::<Vec<_>>()
        }));
    }
}

fn calls_other_than_agents(run: Result<run::Run, String>) -> Option<String> {
    match run {
        Err(error) => Some(error),
        Ok(run) => match run.calls {
            Some(Call::Node { port: 6666 }) => None,
            Some(Call::Url(url)) if url == "http://queue:8080" || url == "https://queue:8080" => None,
            calls => Some(format!("{} calls {calls:?}", run.program)),
        },
    }
}

#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn test_pods_follow_what_is_switched_on() {
    let cases = [
        (json!({"tests": {"enabled": false}}), vec![]),
        (json!({"logd": {"enabled": false}}), vec![QUEUED]),
        (json!({"queued": {"enabled": false}}), vec![LOGD]),
        (json!({"logd": {"tls": {"existingSecret": "s"}}}), vec![QUEUED]),
        (json!({"queued": {"tokens": {"existingSecret": "s"}}}), vec![LOGD]),
    ];
    let values: Vec<Value> = cases.iter().map(|(values, _)| values.clone()).collect();
    for (text, (values, wanted)) in hooks(&values).iter().zip(cases) {
        assert_eq!(keys(text), wanted, "{values}");
    }
}

/// The key of each Secret is mounted alone: a test needs no private key and not every token.
#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn test_pods_mount_only_what_they_read() {
    let objects = parse(&hooks(&[everything()]).remove(0));
    let item = |pod: &str, volume: usize| {
        let secret = &objects[pod]["spec"]["volumes"][volume]["secret"];
        (secret["secretName"].clone(), secret["items"].clone())
    };
    assert_eq!(item(LOGD, 0), (json!("logd-tls"), json!([{"key": "ca.crt", "path": "ca.crt"}])));
    assert_eq!(item(QUEUED, 0), (json!("queued-tls"), json!([{"key": "ca.crt", "path": "ca.crt"}])));
    assert_eq!(item(QUEUED, 1), (json!("queued-token"), json!([{"key": "token", "path": "token"}])));
}

/// default-deny also selects the pods of the tests, and a hook must not be left when it has succeeded.
#[test]
#[ignore = "needs Helm's engine: just manifests"]
fn each_test_has_its_policy_and_is_removed() {
    let objects: Objects = parse(&hooks(&[json!({})]).remove(0));
    let annotation = |object: &Value, name: &str| object["metadata"]["annotations"][name].clone();
    for object in objects.values() {
        assert_eq!(annotation(object, "helm.sh/hook"), "test");
        let policy = annotation(object, "helm.sh/hook-delete-policy");
        assert_eq!(policy, "before-hook-creation,hook-succeeded", "{}", key(object));
    }
    for pod in [LOGD, QUEUED] {
        let policy = &objects[&pod.replace("Pod ", "NetworkPolicy ")];
        assert_eq!(annotation(policy, "helm.sh/hook-weight"), "-1", "before the pod");
        let chosen = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
        let labels = &objects[pod]["metadata"]["labels"];
        assert!(chosen.iter().all(|(name, value)| labels[name] == *value), "{chosen:?} selects no {pod}");
    }
    let policies_off = json!({"networkPolicy": {"enabled": false}});
    let without = parse(&hooks(&[policies_off]).remove(0));
    assert!(without.keys().all(|key| key.starts_with("Pod ")), "{without:?}");
}
