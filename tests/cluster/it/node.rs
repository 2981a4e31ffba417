//! The nodes, which all tests share: a port and two directories of each.

use crate::kubectl::list;
use crate::waiting::until;
use std::sync::{Mutex, MutexGuard, PoisonError};

static NODES: Mutex<()> = Mutex::new(());

/// For one test at a time: logd's port 6666 and /var/lib/logd, and /var/log.
/// The pods of the test before take their time to go, and those that send would send to the next test's logd.
#[track_caller]
pub fn exclusive() -> MutexGuard<'static, ()> {
    let nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    until("the nodes to be free of logd, logcd and what sends to logd", || {
        let label = "name in (logd, logcd, logcd-weekly, client, client-shell, senders)";
        list(&["get", "pods", "-A", "-l", label]).is_empty().then_some(())
    });
    nodes
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
