//! The metrics of logd. Every name here is documented in README.md and moved by a test.

use kit::page::history::History;
use kit::telemetry::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::Arc;
use std::time::Instant;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reason {
    pub reason: &'static str,
}

#[derive(Clone, Debug)]
pub struct LogdMetrics {
    pub connections: Counter,
    pub connections_open: Gauge,
    pub refused: Family<Reason, Counter>,
    pub accept_errors: Counter,
    pub receipts: Counter,
    pub resets: Family<Reason, Counter>,
    pub received_bytes: Counter,
    pub lines: Counter,
    pub written_bytes: Counter,
    pub writes: Counter,
    pub splits: Family<Reason, Counter>,
    pub framing_errors: Counter,
    pub write_errors: Counter,
    pub blocked: Gauge,
    pub pending_bytes: Gauge,
    pub torn_tails: Counter,
    pub syncs: Counter,
    pub sync_errors: Counter,
    pub sync_seconds: Histogram,
    pub file_bytes: Gauge,
    pub rotations: Counter,
    pub rotation_errors: Counter,
    pub reopened: Counter,
    pub carried_over_bytes: Counter,
    pub compressed_files: Counter,
    pub removed_files: Counter,
    pub rotated_files: Gauge,
    pub rotated_bytes: Gauge,
    /// Past values of [`LogdMetrics::shown`], for the page.
    pub history: Arc<History<4>>,
}

impl LogdMetrics {
    /// Returns the figures that the page plots: lines, bytes received, bytes written, open connections.
    pub fn shown(&self) -> [u64; 4] {
        let open = u64::try_from(self.connections_open.get()).unwrap_or_default();
        [self.lines.get(), self.received_bytes.get(), self.written_bytes.get(), open]
    }

    /// Samples the history. Must be called before any of the shown figures changes.
    pub fn tick(&self) {
        self.history.tick(Instant::now(), || self.shown());
    }

    pub fn register(metrics: &Metrics) -> LogdMetrics {
        // Buckets from 100 µs to 1.6 s: from a fast device to one that is about to be replaced.
        let sync_seconds = Histogram::new((0..15).map(|step| 0.0001 * f64::from(1u32 << step)));
        metrics.register(|registry| {
            macro_rules! add {
                ($name:ident, $help:literal) => {
                    add!($name, $help, Default::default())
                };
                ($name:ident, $help:literal, $metric:expr) => {{
                    let metric = $metric;
                    registry.register(stringify!($name), $help, Clone::clone(&metric));
                    metric
                }};
            }
            LogdMetrics {
                connections: add!(connections, "Connections accepted"),
                connections_open: add!(connections_open, "Connections that are open now"),
                refused: add!(refused, "Connections refused after the accept, by reason"),
                accept_errors: add!(accept_errors, "Accepts that failed"),
                receipts: add!(
                    receipts,
                    "Connections closed after everything they sent was written to the file"
                ),
                resets: add!(resets, "Connections ended without a receipt, by reason"),
                received_bytes: add!(received_bytes, "Bytes read from connections"),
                lines: add!(lines, "Lines received"),
                written_bytes: add!(written_bytes, "Bytes appended to the file"),
                writes: add!(writes, "Appends to the file"),
                splits: add!(splits, "Cuts of lines that were too long, by reason"),
                framing_errors: add!(framing_errors, "Connections whose octet counting was invalid"),
                write_errors: add!(write_errors, "Appends that failed; each is retried"),
                blocked: add!(blocked, "1 while lines cannot be written and none are read"),
                pending_bytes: add!(pending_bytes, "Bytes that wait to be written to the file"),
                torn_tails: add!(torn_tails, "Starts that repaired an unfinished last line of the file"),
                syncs: add!(syncs, "Syncs of the file to the disk"),
                sync_errors: add!(sync_errors, "Syncs that failed"),
                sync_seconds: add!(sync_seconds, "Duration of a sync", sync_seconds),
                file_bytes: add!(file_bytes, "Size of the file"),
                rotations: add!(rotations, "Rotations of the file"),
                rotation_errors: add!(rotation_errors, "Rotations that failed; each is retried"),
                reopened: add!(
                    reopened,
                    "Files that were moved or removed by others and replaced by a new one"
                ),
                carried_over_bytes: add!(
                    carried_over_bytes,
                    "Bytes copied from a removed file into the next one"
                ),
                compressed_files: add!(compressed_files, "Rotated files compressed"),
                removed_files: add!(removed_files, "Rotated files removed to stay within the bounds"),
                rotated_files: add!(rotated_files, "Rotated files that are kept"),
                rotated_bytes: add!(rotated_bytes, "Size of the rotated files that are kept"),
                history: Arc::new(History::new(Instant::now(), [0; 4])),
            }
        })
    }
}

/// Converts a value for a gauge, which takes a signed number; one that does not fit becomes the maximum.
pub fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
