//! The kinds of other people's operators, with no more fields than ours use: another one is reported as unknown.
#![expect(dead_code, reason = "most fields are there only so that others are unknown")]

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Prometheus operator: scrape these pods.
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

/// Of a trigger of type metrics-api.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TriggerMetadata {
    pub url: String,
    pub value_location: String,
    pub target_value: String,
}
