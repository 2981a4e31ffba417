//! The kinds of third-party operators, with no more fields than ours use: any other field is reported as
//! unknown.
#![expect(dead_code, reason = "most fields are there only so that others are unknown")]

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Prometheus operator: scrapes these pods.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodMonitor {
    pub metadata: ObjectMeta,
    pub spec: PodMonitorSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodMonitorSpec {
    pub selector: LabelSelector,
    pub pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub port: String,
    pub path: String,
    pub interval: String,
    pub relabelings: Vec<Relabeling>,
}

/// A relabeling of the operator; also accepts the spelling of Prometheus itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Relabeling {
    #[serde(alias = "source_labels")]
    pub source_labels: Vec<String>,
    pub regex: Option<String>,
    pub replacement: Option<String>,
    #[serde(alias = "target_label")]
    pub target_label: String,
}

/// Prometheus operator: alerts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusRule {
    pub metadata: ObjectMeta,
    pub spec: PrometheusRuleSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusRuleSpec {
    pub groups: Vec<RuleGroup>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleGroup {
    pub name: String,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub alert: String,
    pub expr: String,
    pub r#for: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// OpenShift: the permissions of a service account's pods.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "these are OpenShift's fields")]
pub struct SecurityContextConstraints {
    pub metadata: ObjectMeta,
    pub allow_host_dir_volume_plugin: bool,
    pub allow_host_ports: bool,
    pub allow_host_network: bool,
    #[serde(rename = "allowHostPID")]
    pub allow_host_pid: bool,
    #[serde(rename = "allowHostIPC")]
    pub allow_host_ipc: bool,
    pub allow_privileged_container: bool,
    pub allow_privilege_escalation: bool,
    pub read_only_root_filesystem: bool,
    pub required_drop_capabilities: Vec<String>,
    pub allowed_capabilities: Vec<String>,
    pub seccomp_profiles: Vec<String>,
    pub run_as_user: Strategy,
    pub se_linux_context: Strategy,
    pub fs_group: Strategy,
    pub supplemental_groups: Strategy,
    pub volumes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    pub r#type: String,
}

/// KEDA: as many Jobs as a trigger asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaledJob {
    pub metadata: ObjectMeta,
    pub spec: ScaledJobSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ScaledJobSpec {
    pub polling_interval: u32,
    pub max_replica_count: u32,
    pub successful_jobs_history_limit: u32,
    pub failed_jobs_history_limit: u32,
    pub scaling_strategy: BTreeMap<String, String>,
    pub triggers: Vec<Trigger>,
    pub job_target_ref: JobSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    pub r#type: String,
    pub metadata: TriggerMetadata,
}

/// Metadata of a trigger of type metrics-api.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TriggerMetadata {
    pub url: String,
    pub value_location: String,
    pub target_value: String,
}
