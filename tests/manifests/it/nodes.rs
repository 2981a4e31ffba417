//! The agents of each node run on each node, and are replaced a few at a time.

use crate::object::Typed;
use crate::pod::{Pod, of_every_pod, unless};
use crate::rendering::all;

#[test]
fn node_agents_tolerate_every_taint() {
    of_every_pod(|pod| {
        let Typed::DaemonSet(_) = &pod.object.resource else { return Vec::new() };
        let everything = pod.spec.tolerations.iter().flatten().any(|toleration| {
            toleration.operator.as_deref() == Some("Exists")
                && toleration.key.is_none()
                && toleration.effect.is_none()
        });
        unless(everything, "write tolerations: [{operator: Exists}]: every node has logs")
            .into_iter()
            .collect()
    });
}

#[test]
fn node_agents_roll_out_in_small_steps() {
    of_every_pod(|pod| match &pod.object.resource {
        Typed::DaemonSet(set) if pod.rendering.is_crew() => {
            let rolling =
                set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
            let bounded = rolling.is_some_and(|rolling| rolling.max_unavailable.is_some());
            let settles = set.spec.min_ready_seconds.is_some_and(|seconds| seconds > 0);
            let wrong = [
                unless(bounded, "write updateStrategy.rollingUpdate.maxUnavailable"),
                unless(settles, "write minReadySeconds, or a rollout runs past pods that fail"),
            ];
            wrong.into_iter().flatten().collect()
        }
        _ => Vec::new(),
    });
}

#[test]
fn priority_component_brings_its_class() {
    let named = |pod: &Pod<'_>| pod.spec.priority_class_name.clone();
    of_every_pod(|pod| {
        let Some(class) = named(pod) else { return Vec::new() };
        let mut classes =
            pod.rendering.objects.iter().filter(|object| matches!(object.resource, Typed::PriorityClass(_)));
        let is_node_agent = matches!(pod.object.resource, Typed::DaemonSet(_));
        let wrong = [
            unless(
                classes.any(|object| object.name == class),
                format!("no PriorityClass {class} in this file"),
            ),
            unless(is_node_agent, "a priority class is for the node agents"),
        ];
        wrong.into_iter().flatten().collect()
    });
    let pods = |path: &str| all().iter().find(|rendering| rendering.path == path).unwrap().pods();
    assert!(pods("k8s/rendered/crew.yaml").iter().all(|pod| named(pod).is_none()));
    assert_eq!(pods("k8s/rendered/prod.yaml").iter().filter(|pod| named(pod).is_some()).count(), 2);
}
