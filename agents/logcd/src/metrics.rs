//! The metrics of logcd. Each is documented in README.md and exercised by a test.

use crate::cycle::report::{CycleReport, Published};
use crate::logs::skip::Skip;
use kit::telemetry::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CycleResult {
    pub result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reason {
    pub reason: &'static str,
}

#[derive(Clone, Debug, Default)]
pub struct LogcdMetrics {
    cycles: Family<CycleResult, Counter>,
    cycle_seconds: Counter<f64, AtomicU64>,
    idle_ticks: Counter,
    compressed_bytes: Counter,
    copied_bytes: Counter,
    written_bytes: Counter,
    superseded: Counter,
    archives_removed: Counter,
    sources_removed: Counter,
    files: Gauge,
    skipped_files: Family<Reason, Gauge>,
    empty_directories: Gauge,
    waiting_bytes: Gauge,
    archive_bytes: Gauge,
    content_bytes: Gauge,
    published_timestamp_seconds: Gauge,
}

impl LogcdMetrics {
    pub fn register(metrics: &Metrics) -> LogcdMetrics {
        let own = LogcdMetrics::default();
        metrics.register(|registry| own.add_to(registry));
        own
    }

    fn add_to(&self, registry: &mut Registry) {
        registry.register("cycles", "Scans of the directories, by result", self.cycles.clone());
        registry.register("cycle_seconds", "Time spent in cycles", self.cycle_seconds.clone());
        registry.register(
            "idle_ticks",
            "Intervals without a scan, because nothing had changed",
            self.idle_ticks.clone(),
        );
        registry.register("compressed_bytes", "Log bytes compressed", self.compressed_bytes.clone());
        registry.register(
            "copied_bytes",
            "Archive bytes copied from the previous archive",
            self.copied_bytes.clone(),
        );
        registry.register(
            "written_bytes",
            "Archive bytes written that were not copied",
            self.written_bytes.clone(),
        );
        registry.register(
            "superseded",
            "Earlier contents kept under NAME.TIME, which their file no longer holds",
            self.superseded.clone(),
        );
        registry.register(
            "archives_removed",
            "Archives removed for --keep-days, --keep-bytes and --min-free",
            self.archives_removed.clone(),
        );
        registry.register("sources_removed", "Logs deleted for --remove-after", self.sources_removed.clone());
        registry.register("files", "Files that match the patterns now", self.files.clone());
        registry.register("skipped_files", "Files skipped now, by reason", self.skipped_files.clone());
        registry.register(
            "empty_directories",
            "Log directories in which no name matches now",
            self.empty_directories.clone(),
        );
        registry.register("waiting_bytes", "Log bytes that wait to be published", self.waiting_bytes.clone());
        registry.register("archive_bytes", "Size of today's archive", self.archive_bytes.clone());
        registry.register(
            "content_bytes",
            "Uncompressed size of the content of today's archive",
            self.content_bytes.clone(),
        );
        registry.register(
            "published_timestamp_seconds",
            "Time when an archive was last published",
            self.published_timestamp_seconds.clone(),
        );
    }

    pub fn idle(&self) {
        self.idle_ticks.inc();
    }

    pub fn failed(&self, result: &'static str, took: Duration) {
        self.count(result, took);
    }

    pub fn done(&self, report: &CycleReport, took: Duration, now_s: i64) {
        if let Some(Published { compressed, written, copied, superseded }) = report.published {
            self.compressed_bytes.inc_by(compressed);
            self.written_bytes.inc_by(written);
            self.copied_bytes.inc_by(copied);
            self.superseded.inc_by(superseded);
            self.published_timestamp_seconds.set(now_s);
        }
        self.count(report.result(), took);
        self.archives_removed.inc_by(report.removed_archives);
        self.sources_removed.inc_by(report.removed_sources);
        self.files.set(gauge(report.files as u64));
        self.empty_directories.set(gauge(report.unmatched.len() as u64));
        self.waiting_bytes.set(gauge(report.waiting.unwrap_or(0)));
        self.archive_bytes.set(gauge(report.archive_bytes));
        self.content_bytes.set(gauge(report.content_bytes));
        for skip in Skip::ALL {
            let number = report.skip_counts.get(&skip).copied().unwrap_or(0);
            self.skipped_files.get_or_create(&Reason { reason: skip.reason() }).set(gauge(number));
        }
    }

    fn count(&self, result: &'static str, took: Duration) {
        self.cycles.get_or_create(&CycleResult { result }).inc();
        self.cycle_seconds.inc_by(took.as_secs_f64());
    }
}

/// Converts to the signed number of a gauge; saturates if the value does not fit.
fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
