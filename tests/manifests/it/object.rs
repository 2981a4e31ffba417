//! A Kubernetes object as its own type, which rejects a misspelt field, a wrong type or an unknown kind.

use crate::custom::{PodMonitor, PrometheusRule, ScaledJob, SecurityContextConstraints};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

macro_rules! kinds {
    ($($version:literal: $($kind:ident),+;)+) => {
        #[derive(Debug)]
        #[expect(dead_code, reason = "of some kinds nothing more is asked than that they parse")]
        pub enum Typed { $($($kind(Box<$kind>),)+)+ }

        impl Typed {
            fn of(version: &str, kind: &str, value: Value) -> Result<Typed, String> {
                match (version, kind) {
                    $($(($version, stringify!($kind)) => strictly(value).map(|object| Typed::$kind(Box::new(object))),)+)+
                    _ => Err("no kind that these tests know: give it a type in tests/manifests/it/object.rs".to_owned()),
                }
            }
        }
    };
}

kinds! {
    "v1": ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount;
    "apps/v1": DaemonSet, Deployment, ReplicaSet, StatefulSet;
    "autoscaling/v2": HorizontalPodAutoscaler;
    "batch/v1": CronJob, Job;
    "keda.sh/v1alpha1": ScaledJob;
    "monitoring.coreos.com/v1": PodMonitor, PrometheusRule;
    "networking.k8s.io/v1": NetworkPolicy;
    "policy/v1": PodDisruptionBudget;
    "rbac.authorization.k8s.io/v1": ClusterRole, RoleBinding;
    "scheduling.k8s.io/v1": PriorityClass;
    "security.openshift.io/v1": SecurityContextConstraints;
}

#[derive(Debug)]
pub struct Object {
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
    pub resource: Typed,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Object {
    pub fn parse(mut value: Value) -> Result<Object, String> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (version, kind) = (text("/apiVersion").unwrap_or_default(), text("/kind").unwrap_or_default());
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name").unwrap_or_default());
        // The types of custom.rs do not have these two fields; those of Kubernetes require them.
        let is_custom = ["monitoring.coreos.com/", "keda.sh/", "security.openshift.io/"]
            .iter()
            .any(|group| version.starts_with(group));
        if let (true, Some(fields)) = (is_custom, value.as_object_mut()) {
            fields.retain(|name, _| name != "apiVersion" && name != "kind");
        }
        let resource = Typed::of(&version, &kind, value);
        let resource = resource.map_err(|what| format!("{version} {kind} {name}: {what}"))?;
        Ok(Object { kind, namespace, name, resource })
    }
}

fn strictly<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    let mut unknown = Vec::new();
    // A trait object, because otherwise the compiler generates everything below T again for each T, which
    // takes minutes.
    let note: &mut dyn FnMut(serde_ignored::Path<'_>) =
        &mut |path| unknown.push(path.to_string().replace("?.", ""));
    let object = serde_ignored::deserialize(value, note);
    match object {
        Err(error) => Err(format!("{error}; see `kubectl explain`")),
        Ok(_) if !unknown.is_empty() => Err(format!("unknown fields {}: misspelt?", unknown.join(", "))),
        Ok(object) => Ok(object),
    }
}
