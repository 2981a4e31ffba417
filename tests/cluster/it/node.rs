//! The nodes, which all tests share: a port and two directories of each.

use crate::kubectl::list;
use std::sync::{Mutex, MutexGuard, PoisonError};

static NODES: Mutex<()> = Mutex::new(());

/// For one test at a time: logd's port 6666 and /var/lib/logd, and /var/log.
pub fn exclusive() -> MutexGuard<'static, ()> {
    NODES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of those that take pods.
#[track_caller]
pub fn names() -> Vec<String> {
    let nodes = list(&["get", "nodes"]);
    let names: Vec<_> = nodes
        .iter()
        .filter(|node| node["spec"]["unschedulable"] != true)
        .map(|node| node["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(!names.is_empty());
    names
}
