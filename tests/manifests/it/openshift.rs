//! OpenShift's constraints allow what the node agents need, and nothing more.

use crate::custom::SecurityContextConstraints;
use crate::object::{Object, Typed};
use crate::pod::Pod;
use crate::rendering::{Rendering, all};
use k8s_openapi::api::rbac::v1::RoleBinding;
use std::collections::BTreeSet;

fn rendering() -> &'static Rendering {
    all().iter().find(|rendering| rendering.path == "k8s/rendered/openshift.yaml").unwrap()
}

fn constraints() -> &'static SecurityContextConstraints {
    let mut found = rendering().objects.iter().filter_map(|object| match &object.resource {
        Typed::SecurityContextConstraints(constraints) => Some(constraints),
        _ => None,
    });
    found.next().expect("constraints of our own")
}

fn bindings() -> impl Iterator<Item = (&'static Object, &'static RoleBinding)> {
    rendering().objects.iter().filter_map(|object| match &object.resource {
        Typed::RoleBinding(binding) => Some((object, &**binding)),
        _ => None,
    })
}

/// Returns the role that the pod's service account is bound to.
fn role(pod: &Pod<'_>) -> String {
    let account = pod.spec.service_account_name.as_ref().expect("a service account of its own");
    let bound = bindings().filter(|(object, _)| object.namespace == pod.object.namespace);
    let mut bound = bound.filter(|(_, binding)| {
        let mut subjects = binding.subjects.iter().flatten();
        subjects.any(|subject| subject.name == *account && subject.namespace == pod.object.namespace)
    });
    bound.next().unwrap_or_else(|| panic!("{pod}: {account} is bound to nothing")).1.role_ref.name.clone()
}

#[test]
fn each_pod_has_an_account_bound_to_constraints() {
    let pods = rendering().pods();
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let wanted = match pod.object.resource {
            Typed::DaemonSet(_) => "nodecrew-node",
            _ => "system:openshift:scc:nonroot-v2",
        };
        assert_eq!(role(pod), wanted, "{pod}");
    }
    let allowed = rendering().objects.iter().any(|object| match &object.resource {
        Typed::ClusterRole(role) => role.rules.iter().flatten().any(|rule| {
            rule.verbs == ["use"]
                && rule.resources.iter().flatten().eq(["securitycontextconstraints"])
                && rule.resource_names.iter().flatten().eq(["nodecrew-node"])
        }),
        _ => false,
    });
    assert!(allowed, "no role may use the constraints");
}

#[test]
fn constraints_allow_what_node_agents_need_and_no_more() {
    let constraints = constraints();
    let pods = rendering().pods();
    let agents: Vec<_> =
        pods.iter().filter(|pod| matches!(pod.object.resource, Typed::DaemonSet(_))).collect();
    let volumes: BTreeSet<&str> = agents
        .iter()
        .flat_map(|pod| pod.spec.volumes.iter().flatten())
        .map(|volume| if volume.host_path.is_some() { "hostPath" } else { "configMap" })
        // Needed with components/tls-logd.
        .chain(["secret"])
        .collect();
    assert_eq!(constraints.volumes.iter().map(String::as_str).collect::<BTreeSet<_>>(), volumes);
    let added: BTreeSet<&String> = agents
        .iter()
        .flat_map(|pod| pod.containers())
        .filter_map(|container| container.security_context.as_ref()?.capabilities.as_ref()?.add.as_ref())
        .flatten()
        .collect();
    assert_eq!(constraints.allowed_capabilities.iter().collect::<BTreeSet<_>>(), added);
    let refused = [
        constraints.allow_host_network,
        constraints.allow_host_pid,
        constraints.allow_host_ipc,
        constraints.allow_privileged_container,
        constraints.allow_privilege_escalation,
    ];
    assert_eq!(refused, [false; 5]);
    assert!(constraints.read_only_root_filesystem && constraints.allow_host_ports);
    assert_eq!(constraints.required_drop_capabilities, ["ALL"]);
}
