//! kvd's metrics. README.md documents each, and a test changes each.

use crate::keyspace::Keyspace;
use kit::telemetry::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use std::fmt;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    pub door: &'static str,
    pub status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct MutationLabel {
    pub kind: &'static str,
}

#[derive(Clone, Debug)]
pub struct KvdMetrics {
    pub requests: Family<RequestLabels, Counter>,
    pub mutations: Family<MutationLabel, Counter>,
    pub commits: Counter,
    pub commit_seconds: Histogram,
    pub commit_errors: Counter,
    pub refuses_writes: Gauge,
    pub watchers: Gauge,
}

impl KvdMetrics {
    pub fn register(metrics: &Metrics) -> KvdMetrics {
        // From 50 µs to 0.8 s: from a fast device to one that should be replaced.
        let seconds = (0..15).map(|step| 0.000_05 * f64::from(1u32 << step));
        let own = KvdMetrics {
            requests: Family::default(),
            mutations: Family::default(),
            commits: Counter::default(),
            commit_seconds: Histogram::new(seconds),
            commit_errors: Counter::default(),
            refuses_writes: Gauge::default(),
            watchers: Gauge::default(),
        };
        let this = own.clone();
        metrics.register(|registry| {
            registry.register("requests", "HTTP requests answered, by door and status", this.requests);
            registry.register("mutations", "Keys put, deleted and expired", this.mutations);
            registry.register("commits", "Groups of mutations written to the store", this.commits);
            registry.register(
                "commit_seconds",
                "Duration of writing a group, including its sync",
                this.commit_seconds,
            );
            registry.register("commit_errors", "Groups that the store did not take", this.commit_errors);
            registry.register(
                "refuses_writes",
                "1 while the store refuses writes, as on a nearly full disk",
                this.refuses_writes,
            );
            registry.register("watchers", "Open streams of changes", this.watchers);
        });
        own
    }
}

/// Figures of the keys, computed at each scrape.
#[derive(Debug)]
pub struct KeyFigures {
    pub keyspace: Keyspace,
}

/// Converts a count to a metric's float. Precision beyond 2^53 is not needed.
#[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
fn float(value: u64) -> f64 {
    value as f64
}

impl Collector for KeyFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let usage = self.keyspace.usage();
        for (name, help, value) in [
            ("keys", "Keys, with those that have expired and are still to be removed", usage.keys),
            ("key_bytes", "Bytes of all keys and values", usage.bytes),
            ("revision", "The revision of the last change", self.keyspace.revision()),
        ] {
            let gauge = ConstGauge::new(float(value));
            gauge.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                EncodeMetric::metric_type(&gauge),
            )?)?;
        }
        Ok(())
    }
}
