//! Prometheus metrics: one registry per agent, and the kernel's figures about the process.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The content type of the text that `encode` returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one agent. Their names are prefixed with the agent's name.
#[derive(Clone, Debug)]
pub struct Metrics {
    agent: Arc<Mutex<Registry>>,
    process: Arc<Registry>,
}

impl Metrics {
    pub fn new(agent: &'static str) -> Metrics {
        let mut process = Registry::default();
        let build = vec![("agent", agent), ("version", crate::VERSION)];
        process.register("nodecrew_build", "Name and version of the agent", Info::new(build));
        process.register_collector(Box::new(Process));
        Metrics { agent: Arc::new(Mutex::new(Registry::with_prefix(agent))), process: Arc::new(process) }
    }

    /// Adds the agent's metrics.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.agent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The page that a scraper reads.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut page = String::with_capacity(4096);
        encode_registry(&mut page, &self.agent.lock().unwrap_or_else(PoisonError::into_inner))?;
        encode_registry(&mut page, &self.process)?;
        encode_eof(&mut page)?;
        Ok(page)
    }
}

/// Figures about the process, read from /proc at each scrape. A figure that cannot be read is left out.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> Result<(), fmt::Error> {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, EncodeMetric::metric_type(&gauge))?)
        };
        gauge("process_resident_memory_bytes", "Memory in use", status_kib("VmRSS:").map(|k| k * 1024.0))?;
        let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        let descriptors = descriptors.and_then(|n| u32::try_from(n).ok()).map(f64::from);
        gauge("process_open_fds", "Open file descriptors", descriptors)?;
        gauge("process_threads", "Threads", status_kib("Threads:"))?;
        let Some(seconds) = cpu_seconds() else { return Ok(()) };
        let counter = ConstCounter::new(seconds);
        counter.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "User and system CPU time spent",
            None,
            counter.metric_type(),
        )?)
    }
}

fn status_kib(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeVal;
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = |t: TimeVal| i32::try_from(t.tv_usec()).ok().map(f64::from);
    let seconds = |t: TimeVal| Some(f64::from(i32::try_from(t.tv_sec()).ok()?) + micros(t)? / 1e6);
    Some(seconds(usage.user_time())? + seconds(usage.system_time())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn page_has_agent_process_and_build_metrics() {
        let metrics = Metrics::new("logd");
        let lines = Counter::<u64>::default();
        metrics.register(|r| r.register("lines", "Lines taken", lines.clone()));
        lines.inc_by(3);
        let page = metrics.encode().unwrap();
        for part in [
            "logd_lines_total 3\n",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_threads ",
            "process_cpu_seconds_total ",
            "nodecrew_build_info{agent=\"logd\"",
            "# EOF\n",
        ] {
            assert!(page.contains(part), "{part} is missing in:\n{page}");
        }
    }
}
