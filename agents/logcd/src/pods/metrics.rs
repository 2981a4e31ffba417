//! The metrics of container logs and their archives.

use crate::pods::overview::PodsOverview;
use jiff::Timestamp;
use kit::telemetry::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Limit on the namespaces with their own label. The others share one label.
const NAMESPACES_MAX: usize = 200;
const OTHERS: &str = "_others";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NamespaceLabel {
    namespace: String,
}

#[derive(Clone, Debug, Default)]
pub struct PodsMetrics {
    pub logs: Gauge,
    pub departed_logs: Gauge,
    pub directory_missing: Gauge,
    pub kept_bytes: Gauge,
    pub read_bytes: Counter,
    pub packed_bytes: Counter,
    pub commits: Counter,
    pub failures: Counter,
    pub lost_logs: Counter,
    pub given_up_bytes: Counter,
    pub refused_namespaces: Gauge,
    pub truncated_logs: Counter,
    pub skipped_names: Counter,
    pub committed_timestamp_seconds: Gauge,
    /// The time since which lines may have waited; 0 if none can.
    pub waiting_since_timestamp_seconds: Gauge,
    pub evicted_within_share_bytes: Counter,
    /// The figures for the page.
    pub overview: PodsOverview,
    evicted_bytes: Family<NamespaceLabel, Counter>,
    /// The namespaces with a label of their own.
    labelled: Arc<Mutex<BTreeSet<String>>>,
}

impl PodsMetrics {
    pub fn register(metrics: &Metrics) -> PodsMetrics {
        let own = PodsMetrics::default();
        metrics.register(|registry| own.add_to(registry));
        own
    }

    fn add_to(&self, registry: &mut Registry) {
        registry.register("pods_logs", "Container logs that are held open", self.logs.clone());
        registry.register(
            "pods_departed_logs",
            "Container logs that are deleted or compressed and not yet read for the last time",
            self.departed_logs.clone(),
        );
        registry.register(
            "pods_directory_missing",
            "1 while the directory of container logs does not exist",
            self.directory_missing.clone(),
        );
        registry.register(
            "pods_kept_bytes",
            "Size of all archives of container logs",
            self.kept_bytes.clone(),
        );
        registry.register("pods_read_bytes", "Bytes of container logs archived", self.read_bytes.clone());
        registry.register(
            "pods_packed_bytes",
            "Compressed bytes of container logs written",
            self.packed_bytes.clone(),
        );
        registry.register(
            "pods_commits",
            "Times that new lines became part of archives",
            self.commits.clone(),
        );
        registry.register("pods_failures", "Commits that failed and are tried again", self.failures.clone());
        registry.register(
            "pods_lost_logs",
            "Container logs that went before they were read to their end",
            self.lost_logs.clone(),
        );
        registry.register(
            "pods_given_up_bytes",
            "Bytes of deleted container logs closed for --max-deleted before they were archived",
            self.given_up_bytes.clone(),
        );
        registry.register(
            "pods_refused_namespaces",
            "Namespaces that cannot be archived: something else has the name of their directory or archive",
            self.refused_namespaces.clone(),
        );
        registry.register(
            "pods_truncated_logs",
            "Container logs that became shorter and were read again from their start",
            self.truncated_logs.clone(),
        );
        registry.register(
            "pods_skipped_names",
            "Names skipped in container directories: links, FIFOs, sparse logs, logs with several names or that cannot be opened, too many",
            self.skipped_names.clone(),
        );
        registry.register(
            "pods_committed_timestamp_seconds",
            "Time when new lines last became part of archives",
            self.committed_timestamp_seconds.clone(),
        );
        registry.register(
            "pods_waiting_since_timestamp_seconds",
            "Time since which new lines may wait to be archived; 0 if none wait",
            self.waiting_since_timestamp_seconds.clone(),
        );
        registry.register(
            "pods_evicted_within_share_bytes",
            "Bytes of archives removed for --min-free from namespaces that were within their share",
            self.evicted_within_share_bytes.clone(),
        );
        registry.register(
            "pods_evicted_bytes",
            "Bytes of archives removed for --keep-days, --keep-bytes and --min-free",
            self.evicted_bytes.clone(),
        );
    }

    /// Records the time since which lines may wait, unless earlier lines wait already.
    pub fn lines_may_wait(&self) {
        if self.waiting_since_timestamp_seconds.get() == 0 {
            self.waiting_since_timestamp_seconds.set(Timestamp::now().as_second());
        }
    }

    /// Counts logs of a container that went before they were read to their end.
    pub fn lost(&self, container: String, logs: u64) {
        self.lost_logs.inc_by(logs);
        self.overview.lost(container, logs);
    }

    pub fn evicted(&self, namespace: &str, bytes: u64) {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = if labelled.contains(namespace) || labelled.len() < NAMESPACES_MAX {
            labelled.insert(namespace.to_owned());
            namespace
        } else {
            OTHERS
        };
        self.evicted_bytes.get_or_create(&NamespaceLabel { namespace: namespace.to_owned() }).inc_by(bytes);
    }
}
