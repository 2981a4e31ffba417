//! rng's metrics. Every name here is documented in README.md and changed by a test.

use kit::telemetry::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByStatus {
    pub status: u16,
}

#[derive(Clone, Debug)]
pub struct RngMetrics {
    pub requests: Family<ByStatus, Counter>,
    pub bytes: Counter,
}

impl RngMetrics {
    pub fn register(metrics: &Metrics) -> RngMetrics {
        let own = RngMetrics { requests: Family::default(), bytes: Counter::default() };
        metrics.register(|registry| {
            registry.register("requests", "Requests answered, without the probes", own.requests.clone());
            registry.register(
                "bytes",
                "Random bytes announced to clients in Content-Length",
                own.bytes.clone(),
            );
        });
        own
    }
}
