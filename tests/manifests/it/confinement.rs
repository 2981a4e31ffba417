//! The rights of a container: as few as Pod Security's `restricted` allows, plus those that the node agents
//! need.

use crate::object::Typed;
use crate::pod::{Pod, judge, of_every_container, of_every_pod, unless};
use crate::rendering::crew;
use crate::run;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, Probe, SeccompProfile, Volume,
};
use std::collections::BTreeSet;

/// A setting that `restricted` does not allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Above {
    HostPath,
    HostPort,
    HostNetwork,
    /// Since 1.34 a probe may not name a host.
    HostOfProbe,
    Root,
    Capability(String),
    Other(String),
}

/// Applies the rules of the profile `restricted` of Kubernetes 1.37, those of `baseline` included.
fn above_restricted(pod: &Pod<'_>) -> BTreeSet<Above> {
    let spec = pod.spec;
    let mut above: BTreeSet<Above> = spec.volumes.iter().flatten().filter_map(of_volume).collect();
    let shared = [("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
    above.extend(shared.iter().filter(|(_, on)| *on == Some(true)).map(|(name, _)| other(name)));
    above.extend((spec.host_network == Some(true)).then_some(Above::HostNetwork));
    let context = spec.security_context.clone().unwrap_or_default();
    above.extend(of_pod(&context));
    above.extend(pod.containers().flat_map(|container| of_container(container, &context)));
    above
}

fn other(what: &str) -> Above {
    Above::Other(what.to_owned())
}

fn of_volume(volume: &Volume) -> Option<Above> {
    let harmless = volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some();
    match (&volume.host_path, harmless) {
        (Some(_), _) => Some(Above::HostPath),
        (None, true) => None,
        (None, false) => Some(other(&format!("volume {}", volume.name))),
    }
}

fn of_pod(context: &PodSecurityContext) -> Vec<Above> {
    let safe = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    ];
    let unsafe_ones = context.sysctls.iter().flatten().filter(|sysctl| !safe.contains(&sysctl.name.as_str()));
    let mut above: Vec<Above> = unsafe_ones.map(|sysctl| other(&format!("sysctl {}", sysctl.name))).collect();
    let profile = context.app_armor_profile.as_ref();
    above.extend(
        profile.filter(|profile| profile.type_ == "Unconfined").map(|_| other("AppArmor Unconfined")),
    );
    above.extend(context.se_linux_options.as_ref().map(|_| other("seLinuxOptions")));
    above.extend(context.windows_options.as_ref().map(|_| other("windowsOptions")));
    above
}

fn of_container(container: &Container, of_pod: &PodSecurityContext) -> Vec<Above> {
    let context = container.security_context.clone().unwrap_or_default();
    let mut above = Vec::new();
    let ports = container.ports.iter().flatten();
    above.extend(
        ports.filter(|port| port.host_port.is_some_and(|number| number != 0)).map(|_| Above::HostPort),
    );
    let probes = [&container.startup_probe, &container.readiness_probe, &container.liveness_probe];
    above
        .extend(probes.into_iter().flatten().filter(|probe| names_a_host(probe)).map(|_| Above::HostOfProbe));
    let hooks = container.lifecycle.iter().flat_map(|lifecycle| [&lifecycle.post_start, &lifecycle.pre_stop]);
    let asks = hooks.flatten().filter(|hook| hook.http_get.is_some() || hook.tcp_socket.is_some());
    above.extend(asks.map(|_| other("lifecycle: these rules look into hooks with exec only")));

    let is_user_0 = context.run_as_user.or(of_pod.run_as_user) == Some(0);
    let is_checked = context.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    above.extend((is_user_0 || !is_checked).then_some(Above::Root));
    let Capabilities { add, drop } = context.capabilities.unwrap_or_default();
    above.extend(
        unless(drop.iter().flatten().any(|name| name == "ALL"), "capabilities are not dropped")
            .map(Above::Other),
    );
    let added = add.into_iter().flatten().filter(|name| name != "NET_BIND_SERVICE");
    above.extend(added.map(Above::Capability));
    above.extend((context.privileged == Some(true)).then(|| other("privileged")));
    above.extend(
        (context.allow_privilege_escalation != Some(false)).then(|| other("allowPrivilegeEscalation")),
    );
    above.extend(context.proc_mount.filter(|mount| mount != "Default").map(|_| other("procMount")));
    above.extend(context.se_linux_options.map(|_| other("seLinuxOptions")));
    above.extend(context.windows_options.map(|_| other("windowsOptions")));
    let app_armor = context.app_armor_profile.filter(|profile| profile.type_ == "Unconfined");
    above.extend(app_armor.map(|_| other("AppArmor Unconfined")));
    let seccomp = context.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    above.extend(unless(seccomp.is_some_and(is_confining), "no seccomp profile").map(Above::Other));
    above
}

fn is_confining(profile: &SeccompProfile) -> bool {
    matches!(profile.type_.as_str(), "RuntimeDefault" | "Localhost")
}

fn names_a_host(probe: &Probe) -> bool {
    let of_http = probe.http_get.as_ref().and_then(|get| get.host.as_deref());
    let of_tcp = probe.tcp_socket.as_ref().and_then(|socket| socket.host.as_deref());
    of_http.or(of_tcp).is_some_and(|host| !host.is_empty())
}

/// Names each setting that `restricted` does not allow.
pub fn beyond_restricted(pod: &Pod<'_>) -> Vec<String> {
    above_restricted(pod).iter().map(|above| format!("more than `restricted` allows: {above:?}")).collect()
}

/// The rights that k8s/nodes/namespace.yaml explains. The node agents' data is in directories of the node,
/// which belong to root, and logd listens at the node's address.
fn needed(pod: &Pod<'_>) -> BTreeSet<Above> {
    let programs: BTreeSet<String> = pod
        .containers()
        .filter_map(|container| run::of(pod, container).ok())
        .map(|run| run.program)
        .collect();
    let mut needed = BTreeSet::new();
    if programs.contains("logd") {
        needed.extend([Above::HostPath, Above::HostPort, Above::Root]);
        if pod.spec.host_network == Some(true) {
            needed.extend([Above::HostNetwork, Above::HostOfProbe]);
        }
    }
    // Added by k8s/components/selinux.
    let is_node_agent = matches!(pod.object.resource, Typed::DaemonSet(_));
    if is_node_agent && pod.rendering.path == "k8s/rendered/openshift.yaml" {
        needed.insert(other("seLinuxOptions"));
    }
    if programs.contains("logcd") {
        needed.extend([Above::HostPath, Above::Root, Above::Capability("DAC_READ_SEARCH".to_owned())]);
    }
    if binds_a_low_port(pod) {
        needed.insert(Above::Root);
    }
    if programs.contains("logsend") && pod.mounts_the_node() {
        needed.extend([Above::HostPath, Above::Root]);
    }
    needed
}

/// True if a container listens on a port below 1024. In Kubernetes only root can do that: added capabilities
/// do not reach a process of another user.
pub fn binds_a_low_port(pod: &Pod<'_>) -> bool {
    let runs = pod.containers().filter_map(|container| run::of(pod, container).ok());
    runs.into_iter().any(|run| run.listens().any(|address| address.port() < 1024))
}

#[test]
fn pods_exceed_restricted_only_as_listed() {
    of_every_pod(|pod| {
        let (needed, above) = (needed(pod), above_restricted(pod));
        let too_much: Vec<_> = above.difference(&needed).collect();
        let gone: Vec<_> = needed.difference(&above).collect();
        unless(
            too_much.is_empty(),
            format!("more than Pod Security `restricted` and its work allow: {too_much:?}"),
        )
        .or(unless(
            gone.is_empty(),
            format!("no longer needs {gone:?}: say so in `needed` here and in nodes/namespace.yaml"),
        ))
        .into_iter()
        .collect()
    });
}

#[test]
fn namespaces_enforce_the_strictest_possible_level() {
    judge(crew().flat_map(|rendering| {
        let pods = rendering.pods();
        let namespaces =
            rendering.objects.iter().filter(|object| matches!(object.resource, Typed::Namespace(_)));
        let unnamed = pods.iter().filter(|pod| pod.object.namespace.is_none());
        let mut wrong: Vec<String> = unnamed.map(|pod| format!("{pod}: in no namespace")).collect();
        for namespace in namespaces {
            let Typed::Namespace(object) = &namespace.resource else { continue };
            let mut inside = pods.iter().filter(|pod| pod.object.namespace.as_ref() == Some(&namespace.name));
            let wanted =
                if inside.any(|pod| !above_restricted(pod).is_empty()) { "privileged" } else { "restricted" };
            let labels = object.metadata.labels.as_ref();
            let enforced = labels.and_then(|labels| labels.get("pod-security.kubernetes.io/enforce"));
            let what = format!(
                "{}: {namespace}: pod-security enforces {enforced:?}: write {wanted}",
                rendering.path
            );
            wrong.extend(unless(enforced.map(String::as_str) == Some(wanted), what));
        }
        wrong
    }));
}

#[test]
fn root_is_read_only_without_api_access() {
    of_every_pod(|pod| {
        let spec = pod.spec;
        let no_token = spec.automount_service_account_token == Some(false);
        let no_links = spec.enable_service_links == Some(false);
        let seccomp = spec.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
        let runtime_default = seccomp.is_some_and(|profile| profile.type_ == "RuntimeDefault");
        let wrong = [
            unless(no_token, "write automountServiceAccountToken: false"),
            unless(no_links, "write enableServiceLinks: false"),
            unless(runtime_default, "write seccompProfile: {type: RuntimeDefault} for the pod"),
        ];
        wrong.into_iter().flatten().collect()
    });
    of_every_container(|_, container| {
        let context = container.security_context.as_ref();
        let read_only = context.and_then(|context| context.read_only_root_filesystem) == Some(true);
        unless(read_only, "write readOnlyRootFilesystem: true").into_iter().collect()
    });
}
