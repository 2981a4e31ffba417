//! The agents of each node run on each node, and are replaced a few at a time.

use crate::object::Typed;
use crate::pod::{Pod, of_every_pod, unless};

#[test]
fn a_node_agent_bears_every_taint() {
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
fn the_crews_node_agents_outlive_pressure_and_are_replaced_in_order() {
    of_every_pod(|pod| match &pod.object.resource {
        Typed::DaemonSet(set) if pod.rendering.is_crew() => {
            let rolling =
                set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
            let bounded = rolling.is_some_and(|rolling| rolling.max_unavailable.is_some());
            let settles = set.spec.min_ready_seconds.is_some_and(|seconds| seconds > 0);
            let wrong = [
                unless(
                    is_critical(pod),
                    "write priorityClassName: system-node-critical, or it is evicted first",
                ),
                unless(bounded, "write updateStrategy.rollingUpdate.maxUnavailable"),
                unless(settles, "write minReadySeconds, or a rollout runs past pods that fail"),
            ];
            wrong.into_iter().flatten().collect()
        }
        _ => unless(!is_critical(pod), "system-node-critical is for the crew's node agents")
            .into_iter()
            .collect(),
    });
}

fn is_critical(pod: &Pod<'_>) -> bool {
    pod.spec.priority_class_name.as_deref() == Some("system-node-critical")
}
