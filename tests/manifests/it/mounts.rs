//! Mounted volumes exist, needed paths are mounted, and written paths are writable.

use crate::object::Typed;
use crate::pod::{Pod, judge, of_every_pod, unless};
use crate::rendering::text;
use crate::run::of_every_run;
use k8s_openapi::api::core::v1::{Container, Volume, VolumeMount};
use std::path::Path;

/// The Secrets that the user creates, with their keys; k8s/overlays/prod/kustomization.yaml says how.
const SECRETS: [(&str, &[&str]); 3] = [
    ("logd-tls", &["tls.crt", "tls.key", "ca.crt"]),
    ("queued-tls", &["tls.crt", "tls.key", "ca.crt"]),
    ("queued-tokens", &["tokens"]),
];

/// The mount and volume of a path in a container.
pub struct MountedPath<'a> {
    pub mount: &'a VolumeMount,
    /// `None` where a volumeClaimTemplate creates the volume.
    pub volume: Option<&'a Volume>,
    /// The path relative to the mount.
    pub below: String,
}

pub fn place<'a>(pod: &'a Pod<'_>, container: &'a Container, path: &Path) -> Option<MountedPath<'a>> {
    let mounts = container.volume_mounts.iter().flatten();
    let mounts = mounts.filter_map(|mount| Some((mount, path.strip_prefix(&mount.mount_path).ok()?)));
    let (mount, below) = mounts.max_by_key(|(mount, _)| mount.mount_path.len())?;
    let volume = pod.spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
    Some(MountedPath { mount, volume, below: below.to_string_lossy().into_owned() })
}

#[test]
fn mounts_and_volumes_match() {
    of_every_pod(|pod| {
        let claims = match &pod.object.resource {
            Typed::StatefulSet(set) => set.spec.volume_claim_templates.as_ref(),
            _ => None,
        };
        let claims = claims.into_iter().flatten().filter_map(|claim| claim.metadata.name.as_deref());
        let volumes: Vec<&str> =
            pod.spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).chain(claims).collect();
        let mounts = pod.containers().flat_map(|container| container.volume_mounts.iter().flatten());
        let mounts: Vec<&str> = mounts.map(|mount| mount.name.as_str()).collect();
        let unmade = mounts.iter().filter(|name| !volumes.contains(name));
        let unused = volumes.iter().filter(|name| !mounts.contains(name));
        unmade
            .map(|name| format!("{name} is mounted, and no volume: write it under volumes"))
            .chain(unused.map(|name| format!("the volume {name} is mounted nowhere: remove it")))
            .collect()
    });
}

#[test]
fn config_maps_and_secrets_are_accounted_for() {
    of_every_pod(|pod| {
        let namespace = pod.object.namespace.as_deref();
        let wrong = |volume: &Volume| {
            let map = volume.config_map.as_ref().map(|map| &map.name);
            let secret = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_ref());
            let no_map = map.filter(|name| pod.rendering.config_map(namespace, name).is_none());
            let is_told = |name: &str| SECRETS.iter().any(|(known, _)| *known == name);
            let no_secret =
                secret.filter(|name| !is_told(name) && pod.rendering.secret(namespace, name).is_none());
            no_map
                .map(|name| format!("ConfigMap {name} is not applied with this file: add it"))
                .or(no_secret.map(|name| {
                    format!("Secret {name}: say in overlays/prod how it is made, and in SECRETS here")
                }))
        };
        pod.spec.volumes.iter().flatten().filter_map(wrong).collect()
    });
    let told = text("k8s/overlays/prod/kustomization.yaml");
    judge(SECRETS.iter().filter_map(|(name, _)| {
        unless(
            told.contains(&format!(" {name} ")),
            format!("k8s/overlays/prod/kustomization.yaml does not say how {name} is made"),
        )
    }));
}

#[test]
fn files_read_are_mounted_and_readable() {
    of_every_run(|pod, container, run| {
        run.reads.iter().filter_map(|path| unreadable(pod, container, path)).collect()
    });
}

fn unreadable(pod: &Pod<'_>, container: &Container, path: &Path) -> Option<String> {
    let shown = path.display();
    let Some(MountedPath { volume: Some(volume), below, .. }) = place(pod, container, path) else {
        return Some(format!("{shown} is read, and nothing mounted there"));
    };
    if let Some(map) = &volume.config_map {
        let files = pod.rendering.config_map(pod.object.namespace.as_deref(), &map.name);
        let known = files.is_some_and(|files| files.iter().any(|(key, _)| *key == below));
        return unless(known, format!("{shown}: ConfigMap {} has no {below}", map.name));
    }
    let secret = volume.secret.as_ref()?;
    let name = secret.secret_name.as_deref().unwrap_or_default();
    let known = SECRETS.iter().any(|(known, keys)| *known == name && keys.contains(&below.as_str()));
    let context = pod.spec.security_context.as_ref();
    let is_root = context.and_then(|context| context.run_as_user) == Some(0);
    let of_group = context.is_some_and(|context| context.fs_group.is_some());
    let mode = secret.default_mode.unwrap_or(0o644);
    let readable = (is_root && mode & 0o400 != 0) || (of_group && mode & 0o040 != 0) || mode & 0o004 != 0;
    let private = mode & 0o007 == 0;
    unless(known, format!("{shown}: Secret {name} has no {below}"))
        .or(unless(readable, format!("{shown}: mode {mode:o} keeps its user out: set fsGroup and 0440")))
        .or(unless(
            private,
            format!("{shown}: mode {mode:o} shows a secret to everybody: 0400, or 0440 with fsGroup"),
        ))
}

#[test]
fn paths_written_are_on_writable_volumes() {
    of_every_run(|pod, container, run| {
        let wrong = |path: &Path| {
            let place = place(pod, container, path);
            let writable = place.is_some_and(|place| {
                let kept =
                    place.volume.is_none_or(|volume| volume.config_map.is_none() && volume.secret.is_none());
                kept && place.mount.read_only != Some(true)
            });
            unless(
                writable,
                format!("{} is written, and the root is read-only: mount a volume", path.display()),
            )
        };
        run.writes.iter().filter_map(|path| wrong(path)).collect()
    });
}
