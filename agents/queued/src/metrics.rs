//! queued's metrics. Every name here is documented in README.md and changed by a test.

use kit::telemetry::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabel {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Answered {
    pub door: &'static str,
    pub status: u16,
}

#[derive(Clone, Debug)]
pub struct QueuedMetrics {
    pub commits: Counter,
    pub commit_seconds: Histogram,
    pub syncs: Counter,
    pub written_bytes: Counter,
    pub write_errors: Counter,
    pub no_space: Gauge,
    pub cleaned_items: Counter,
    pub segments_freed: Counter,
    pub clean_errors: Counter,
    pub torn_tails: Counter,
    pub requests: Family<Answered, Counter>,
    pub line_connections: Family<OutcomeLabel, Counter>,
}

impl QueuedMetrics {
    pub fn register(metrics: &Metrics) -> QueuedMetrics {
        // 50 µs to 0.8 s: from a fast device to one that is about to be replaced.
        let commit_seconds = Histogram::new((0..15).map(|step| 0.000_05 * f64::from(1u32 << step)));
        metrics.register(|registry| {
            let mut add = Add(registry);
            QueuedMetrics {
                commits: add.counter("commits", "Groups written to the log"),
                commit_seconds: add.add(
                    "commit_seconds",
                    "Duration of writing a group, including its sync",
                    commit_seconds,
                ),
                syncs: add.counter("syncs", "Syncs of the log to the disk"),
                written_bytes: add.counter("written_bytes", "Bytes written to the log"),
                write_errors: add.counter("write_errors", "Writes or syncs that failed and are retried"),
                no_space: add.add(
                    "no_space",
                    "1 while there is no room for another log segment",
                    Gauge::default(),
                ),
                cleaned_items: add.counter("cleaned_items", "Items written again to free an old segment"),
                segments_freed: add.counter("segments_freed", "Old segments removed"),
                clean_errors: add.counter("clean_errors", "Failures to free an old segment"),
                torn_tails: add
                    .counter("torn_tails", "Unfinished groups cut from the end of the log at the start"),
                requests: add.add(
                    "requests",
                    "HTTP requests answered, by listener (door) and status",
                    Family::default(),
                ),
                line_connections: add.add(
                    "line_connections",
                    "Connections to --line ended, by outcome: taken, returned, empty, failed or refused",
                    Family::default(),
                ),
            }
        })
    }
}

struct Add<'a>(&'a mut prometheus_client::registry::Registry);

impl Add<'_> {
    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    fn add<M: prometheus_client::registry::Metric + Clone>(
        &mut self,
        name: &str,
        help: &str,
        metric: M,
    ) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}
