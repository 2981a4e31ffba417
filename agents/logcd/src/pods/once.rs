//! `--once` with `--pods`: archives the present lines of the container logs.

use crate::once::fatal;
use crate::pods::config::PodsConfig;
use crate::pods::metrics::PodsMetrics;
use crate::pods::tailer::Tailer;
use kit::exit::{Exit, Fatal};
use std::sync::Arc;

/// Archives all lines that are not archived yet. The next run, or the daemon, continues after them.
pub fn once(config: PodsConfig) -> Result<(), Fatal> {
    kit::lifecycle::priority::lower_this_thread();
    kit::daemon::allow_many_descriptors();
    let store = config.store().map_err(fatal)?;
    let metrics = PodsMetrics::default();
    let mut tailer = Tailer::new(config, store, Arc::default(), metrics.clone()).map_err(fatal)?;
    tailer.finish().map_err(fatal)?;
    if let Some((namespace, why)) = tailer.refused().first_key_value() {
        let message = format!("the namespace {namespace} cannot be archived: {why}; the others are");
        return Err(Fatal::new(Exit::Failure, message));
    }
    if tailer.has_unread() {
        let message = "some container logs could not be read, as the log says; the others are archived";
        return Err(Fatal::new(Exit::Failure, message));
    }
    tracing::info!(
        event = "container_logs_archived",
        read_bytes = metrics.read_bytes.get(),
        packed_bytes = metrics.packed_bytes.get(),
        "archived the container logs"
    );
    Ok(())
}
