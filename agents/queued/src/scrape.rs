//! Collects the metrics of the queues when a scrape asks for them.

use crate::engine::contract::QueueView;
use crate::engine::item::ItemState;
use crate::service::Engine;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

#[derive(Debug)]
pub struct Scrape {
    engine: Engine,
}

impl Scrape {
    pub fn new(engine: Engine) -> Scrape {
        Scrape { engine }
    }
}

/// Converts a count to a metric's float; precision beyond 2^53 is not needed.
#[allow(clippy::cast_precision_loss, reason = "a metric is a float")]
fn float(value: u64) -> f64 {
    value as f64
}

/// A metric's name, its help, and its value.
type Figure<T> = (&'static str, &'static str, fn(&QueueView) -> T);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (queues, engine) = self.engine.figures();
        let mut items =
            encoder.encode_descriptor("items", "Items by queue and state", None, MetricType::Gauge)?;
        for queue in &queues {
            for state in ItemState::ALL {
                let labels = [("queue", &*queue.name), ("state", state.name())];
                ConstGauge::new(float(queue.tally(state))).encode(items.encode_family(&labels)?)?;
            }
        }
        let gauges: [Figure<f64>; 5] = [
            ("backlog", "Items that are ready, delayed or leased", |q| float(q.backlog())),
            (
                "failed_items",
                "Items that did not succeed: dead, or moved to the dead-letter queue since the queue was last drained",
                |q| float(q.failed),
            ),
            ("body_bytes", "Bytes of all bodies", |q| float(q.bytes)),
            (
                "oldest_ready_seconds",
                "Age of the oldest ready item since its push, 0 if there is none",
                |q| float(q.oldest_ready_ms.unwrap_or(0)) / 1000.0,
            ),
            ("waiting", "Lease requests waiting for items", |q| float(q.waiting)),
        ];
        for (name, help, figure) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for queue in &queues {
                ConstGauge::new(figure(queue)).encode(family.encode_family(&[("queue", &*queue.name)])?)?;
            }
        }
        let counters: [Figure<u64>; 9] = [
            ("pushed", "Items pushed", |q| q.counters.pushed),
            ("leased", "Leases made", |q| q.counters.leases),
            ("acked", "Items acked", |q| q.counters.acked),
            ("nacked", "Leases nacked, which counts as a failed attempt", |q| q.counters.nacked),
            ("expired", "Leases that expired", |q| q.counters.expired),
            ("released", "Leases released without counting an attempt", |q| q.counters.released),
            ("died", "Items that became dead after their last attempt", |q| q.counters.died),
            ("removed", "Items drained, or deleted when dead", |q| q.counters.removed),
            ("lost", "Items that a repair of the log could not find", |q| q.counters.lost),
        ];
        for (name, help, figure) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for queue in &queues {
                ConstCounter::new(figure(queue)).encode(family.encode_family(&[("queue", &*queue.name)])?)?;
            }
        }
        for (name, help, value) in [
            ("memory_bytes", "Bodies in memory", engine.memory_bytes),
            ("log_bytes", "Size of the log's files, without the spare one", engine.log_bytes),
        ] {
            let gauge = ConstGauge::new(float(value));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
